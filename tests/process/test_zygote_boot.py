"""What a zygote does before it serves."""

import re
import subprocess
import sys
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from pathlib import Path

from rqd import Queue
from tests.daemons import ROOT, StartDaemon
from tests.huge_pages import needs_huge_pages

LARGE = """
rows = [None] * 200_000
for number in range(len(rows)):
    rows[number] = {"number": number}
def look(at): return rows[at]["number"]
"""


def test_a_zygote_whose_master_left_while_it_booted_leaves_in_silence() -> None:
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    fd = theirs.fileno()
    program = f"from rqd.daemon.zygote.boot import main; main({fd}, 1, [])"
    ours.close()

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        pass_fds=[fd],
        stderr=subprocess.PIPE,
        timeout=20,
        process_group=0,
    )
    theirs.close()

    assert (ended.returncode, ended.stderr) == (0, b"")


@needs_huge_pages
def test_a_large_applications_memory_is_cheap_to_fork(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    daemon = start_daemon("--preload", "large", cwd=tmp_path)

    assert queue.enqueue("large.look", 1234).wait(10).return_value() == 1234
    rollup = Path(f"/proc/{daemon.zygote().pid}/smaps_rollup").read_text()
    (huge_kib,) = re.findall(r"AnonHugePages: +(\d+) kB", rollup)
    assert int(huge_kib) >= 16 * 1024
