"""bin/demo as a newcomer meets it: in a pipe, on a terminal, and when something goes wrong."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.daemons import ROOT, alive
from tests.processes import bound_to_pytest
from tests.waiting import eventually

LIMIT_S = 40.0
ROW = re.compile(r"^  (?P<job>\S+)  +(?P<queue>high|low)  +(?P<pid>\d+)  +(?P<state>\w+) .*$", re.M)


def test_the_demo_ends_well_and_shows_in_a_pipe_what_became_of_each_job() -> None:
    with running_demo(["bin/demo"]) as demo:
        output, errors = demo.communicate()

    assert (demo.returncode, errors) == (0, "")
    rows = {row["job"]: row for row in ROW.finditer(output)}
    counted = [row for job, row in rows.items() if job.startswith("count_words(")]
    assert len(counted) == 60
    assert {row["queue"] for row in counted} == {"high", "low"}
    assert {row["state"] for row in counted} == {"finished"}
    assert "answered call 3, at attempt 3" in rows["call_flaky_service()"][0]
    assert "failed" in rows["total_of_prices(..)"][0]
    assert "crashed: SIGSEGV" in rows["read_null_pointer()"][0]
    assert "ValueError: could not convert string to float: 'twelve'" in output
    assert re.search(r"^\d+/63 done, ", output, re.M)
    assert "the daemon exited with 0; all 63 jobs ended as expected" in output
    assert "\033" not in output
    assert "\r" not in output


def test_on_a_terminal_it_is_live_and_coloured_and_says_what_ended_otherwise_than_expected(
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(ROOT / "examples" / "demo", tmp_path / "demo")
    jobs = folder / "jobs.py"
    jobs.write_text(jobs.read_text().replace("if calls <= 2:", "if calls <= 9:"))
    ours, theirs = pty.openpty()

    with running_demo([sys.executable, str(folder / "demo.py")], stdout=theirs) as demo:
        os.close(theirs)
        output = read_terminal(ours)
        _, errors = demo.communicate()

    assert "\r\033[2K" in output
    assert "\033[32mfinished" in output
    assert "\033[31m" in output
    assert demo.returncode == 1
    told = "not as expected: call_flaky_service() failed, raised ConnectionError: call 4"
    assert told in errors


def test_a_demo_that_is_told_to_leave_leaves_no_process_and_no_folder() -> None:
    with running_demo([sys.executable, str(ROOT / "examples" / "demo" / "demo.py")]) as demo:
        assert demo.stdout is not None
        assert "is ready" in demo.stdout.readline()
        processes = psutil.Process(demo.pid).children(recursive=True)
        folder = folder_of(processes[0])
        assert folder.exists()
        demo.send_signal(signal.SIGTERM)
        demo.communicate()

    assert demo.returncode == 128 + signal.SIGTERM
    eventually(lambda: not any(alive(process) for process in processes))
    assert not folder.exists()


@contextmanager
def running_demo(
    command: list[str], stdout: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """A demo that has ended, with all its processes, when the block ends."""
    demo = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=bound_to_pytest(LIMIT_S),
    )
    with demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:
                # The daemon is in its session: told to stop, it takes its own processes with it.
                os.killpg(demo.pid, signal.SIGTERM)


def read_terminal(fd: int) -> str:
    """All that is written to a terminal until its other end is closed."""
    output = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # how Linux says that nobody has the other end open
            data = b""
        if not data:
            os.close(fd)
            return output.decode()
        output += data


def folder_of(daemon: psutil.Process) -> Path:
    """The folder that the demo made for its daemon: its log is there."""
    return Path(f"/proc/{daemon.pid}/fd/2").readlink().parent
