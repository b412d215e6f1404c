"""bin/demo as a newcomer meets it: in a pipe, on a terminal, and when something goes wrong."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.daemons import ROOT, alive
from tests.processes import bound_to_pytest
from tests.waiting import eventually

LIMIT_S = 40.0
ROW = re.compile(r"^  (?P<job>\w+\([.]*\))  +(?P<state>failed|finished)  +.*$", re.M)


def test_the_demo_ends_well_and_shows_in_a_pipe_what_became_of_each_job() -> None:
    with running_demo(["bin/demo"]) as demo:
        output, errors = demo.communicate()

    assert (demo.returncode, errors) == (0, "")
    rows = {row["job"]: row for row in ROW.finditer(output)}
    assert {job: row["state"] for job, row in rows.items()} == {
        "read_null_pointer()": "failed",
        "load_whole_table()": "failed",
        "total_of_prices(..)": "failed",
        "call_flaky_service()": "finished",
    }
    assert "answered call 3, at attempt 3" in rows["call_flaky_service()"][0]
    assert "crashed: SIGSEGV" in rows["read_null_pointer()"][0]
    assert re.search(r"out of memory: \d+ MiB of 48 MiB", rows["load_whole_table()"][0])
    assert re.search(r"^  peak +\d+ MiB ▇{40,}$", output, re.M)
    assert re.search(r"The stack of read_null_pointer.*\n.*Segmentation fault", output)
    assert "ValueError: could not convert string to float: 'twelve'" in output
    assert "60 processes, " in output
    assert re.search(r"^ ?\d+/64 done, ", output, re.M)
    assert "the daemon exited with 0; all 64 jobs ended as expected" in output
    assert "\033" not in output
    assert "\r" not in output
    ours = [line for line in output.splitlines() if not line.lstrip().startswith("File ")]
    assert max(map(len, ours)) <= 100


def test_its_dashboard_is_served_until_it_is_interrupted() -> None:
    demo_py = str(ROOT / "examples" / "demo" / "demo.py")
    with running_demo([sys.executable, demo_py, "--web"]) as demo:
        assert demo.stdout is not None
        address = next(line for line in demo.stdout if line.startswith("dashboard: ")).split()[1]
        with urllib.request.urlopen(f"{address}overview.json", timeout=10) as answer:
            names = {queue["name"] for queue in json.load(answer)["queues"]}
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate()

    assert names == {"high", "low"}
    assert (demo.returncode, errors) == (0, "")
    assert "the daemon exited with 0" in output


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
    assert "\033[31mfailed" in output
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
