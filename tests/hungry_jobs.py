"""Jobs that take more memory or cpu time than they may; and some that look so, and don't."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

MEBIBYTE = 1024 * 1024
PAGE_BYTES = 4096
_GROW = """
import sys, time
taken = [bytearray(b"x" * 1048576) for _ in range(int(sys.argv[1]))]
time.sleep(60)
"""


def take(mebibytes: int) -> bytearray:
    """So much memory, each page of which was written to."""
    taken = bytearray(mebibytes * MEBIBYTE)
    taken[::PAGE_BYTES] = b"x" * (len(taken) // PAGE_BYTES)
    return taken


# What the zygote has when this is among its preloads: children share it.
if os.environ.get("RQD_TEST_SHARED_MEBIBYTES"):
    shared = take(int(os.environ["RQD_TEST_SHARED_MEBIBYTES"]))


def take_and_return(mebibytes: int) -> int:
    return len(take(mebibytes))


def take_and_hold(mebibytes: int, fifo: str) -> int:
    taken = take(mebibytes)
    Path(fifo).read_text()
    return len(taken)


def take_fork_and_take(before: int, after: int) -> None:
    """What it has before is shared from then on, with its own processes alone."""
    taken = [take(before)]
    for n in range(2):
        if os.fork() == 0:
            taken.append(take(after * n))
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def take_in_subprocess(mebibytes: int) -> None:
    subprocess.run([sys.executable, "-c", _GROW, str(mebibytes)], check=False)


def leave_orphan_that_takes(mebibytes: int) -> None:
    """Its parent is gone: the zygote is what it descends from."""
    if os.fork() == 0:
        grow = [sys.executable, "-c", _GROW, str(mebibytes)]
        subprocess.Popen(grow)
        os._exit(0)
    os.wait()
    time.sleep(60)


def read_all_shared() -> int:
    """Reads each page of what the zygote has, which makes none of them its own."""
    time.sleep(0.3)  # for some looks at it
    return len(shared[::PAGE_BYTES])


def burn() -> None:
    while True:
        sum(range(1000))


def burn_in_subprocess() -> None:
    subprocess.run([sys.executable, "-c", "while True: pass"], check=False)


def burn_for(seconds: float) -> int:
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))
    return os.getpid()


def surroundings() -> dict[str, int]:
    """What it may, and how it stands beside others."""
    return {
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom score": int(Path("/proc/self/oom_score_adj").read_text()),
    }


def fill_shared_memory(mebibytes: int) -> None:
    """What no process has mapped: only the kernel knows whose it is."""
    path = Path(f"/dev/shm/rqd-test-{os.getpid()}")
    with path.open("wb") as file:
        path.unlink()
        for _ in range(mebibytes):
            file.write(b"x" * MEBIBYTE)


def fork_many(most: int) -> int:
    """How many processes it may have besides itself."""
    for forked in range(most):
        try:
            subprocess.Popen(["sleep", "60"])
        except BlockingIOError:
            return forked
    return most


def leave_session_and_hold(path: str, fifo: str) -> int:
    """A process of it leaves its group, and outlives it if nobody holds it."""
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(path).write_text(str(left.pid))
    Path(fifo).read_text()
    return left.pid


def control_groups() -> str:
    return Path("/proc/self/cgroup").read_text()
