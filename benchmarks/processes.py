"""Starting other programs, and ending them and all they started: by pid, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_TAIL_CHARS = 2000


class BenchmarkError(Exception):
    """A measurement could not be made; the message says which and why."""


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], log: Path, stop_s: float = 1.0
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while the block runs; afterwards it gets TERM, and its tree KILL if it stays.

    What it prints goes to `log`. In a session of its own: a terminal's Ctrl-C is for the benchmark,
    which then ends what it started.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process, stop_s)


def wait_for(
    done: Callable[[], bool],
    what: str,
    timeout_s: float,
    process: subprocess.Popen[bytes],
    log: Path,
    every_s: float = 0.01,
) -> None:
    """Returns once `done()`. Raises BenchmarkError when the process is gone or the time is over."""
    deadline = time.monotonic() + timeout_s
    while not done():
        gone = process.poll() is not None
        if gone or time.monotonic() > deadline:
            why = (
                f"it exited with {process.returncode}" if gone else f"not within {timeout_s:.0f} s"
            )
            raise BenchmarkError(f"{what}: {why}\n{tail(log)}".rstrip())
        time.sleep(every_s)


def tail(log: Path) -> str:
    """The last of what a program printed."""
    return log.read_text(errors="replace")[-_TAIL_CHARS:]


def _end(process: subprocess.Popen[bytes], stop_s: float) -> None:
    """psutil knows a process by pid and start time: a pid in new hands is left alone."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(stop_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(tree, timeout=1.0)
    for child in left:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=1.0)
