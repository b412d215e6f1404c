"""What a zygote does before it serves."""

import re
import socket
import subprocess
import sys
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from pathlib import Path

from rqd import Queue
from tests.daemons import ROOT, StartDaemon
from tests.huge_pages import needs_huge_pages

UNFORKABLE = """
import _thread, socket, threading
idle = threading.Event().wait
threading.Thread(target=idle, name="flusher", daemon=True).start()
for _ in range(2):
    _thread.start_new_thread(idle, ())
kept = [socket.create_connection(("127.0.0.1", PORT)), socket.socketpair(), socket.socket()]
"""
FORKABLE = """
import _thread, socket, threading, time
thread = threading.Thread(target=print)
thread.start()
thread.join()
_thread.start_new_thread(time.sleep, (0.05,))  # as one that was joined, and is not yet gone
socket.create_connection(("127.0.0.1", PORT)).close()
def add(a, b): return a + b
"""
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


def test_a_failed_boot_shows_the_frames_of_the_application_only(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "outer.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text("import absent\n")
    daemon = start_daemon("--preload", "outer", cwd=tmp_path)

    assert daemon.wait() != 0
    shown = re.findall(r'File "([^"]+)", line', daemon.log())
    assert shown == [str(tmp_path / "outer.py"), str(tmp_path / "inner.py")]
    assert "No module named 'absent'" in daemon.log()


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


def test_what_preloaded_code_has_that_is_unfit_for_a_fork_is_told_with_the_module(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name, code in (("unfit", UNFORKABLE), ("fit", FORKABLE)):
            (tmp_path / f"{name}.py").write_text(code.replace("PORT", str(port)))
        daemon = start_daemon("--preload", "fit,unfit", cwd=tmp_path)
        assert queue.enqueue("fit.add", 2, 3).wait(10).return_value() == 5

    warnings = [line for line in daemon.log().splitlines() if " WARNING preloaded code" in line]
    threads, connections = warnings
    assert threads.endswith("lack module=unfit threads='flusher, unnamed (2 times)'")
    assert connections.endswith(f"share module=unfit connections=127.0.0.1:{port}")
