"""A job's way through the code: how many files it passes, and how often it switches between them.

Traces a real daemon with one worker, by `sys.setprofile` in each of its processes, from
`Queue.enqueue` of its second job until 60 ms later; counts calls of Python functions below rqd/.

    python -m benchmarks.way [--files]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

import rqd
from benchmarks import tasks
from benchmarks.contenders.rqd import Rqd
from benchmarks.processes import running, wait_for
from benchmarks.server import started_server

_TRACED = Path(__file__).parent / "traced"
_PACKAGE = Path(rqd.__file__).parent
# The settle, and the fork of the next child.
_AFTER_S = 0.06
_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when, in which process, of a function in which file."""

    at: float
    pid: int
    file: str


def trace() -> tuple[list[Call], dict[int, str]]:
    """Returns the calls of one job, and the names of the processes by pid."""
    with tempfile.TemporaryDirectory(prefix="rqd-way-") as name, started_server() as server:
        out = Path(name) / "calls"
        os.environ |= {"RQD_TRACED_PACKAGE": str(_PACKAGE), "RQD_TRACED_OUT": str(out)}
        env = server.env | {
            "RQD_TRACED_PACKAGE": str(_PACKAGE),
            "RQD_TRACED_OUT": str(out),
            "PYTHONPATH": os.pathsep.join([str(_TRACED), str(Path.cwd())]),
        }
        contender = Rqd(server, workers=1)
        contender.enqueue(tasks.noop)
        log = server.folder / "daemon.log"
        with running(contender.command, env, log) as process:
            wait_for(lambda: contender.finished() == 1, "the first job", _LIMIT_S, process, log)
            time.sleep(1.0)  # until the daemon is idle: nothing tells that it is
            master = psutil.Process(process.pid)
            kinds = {os.getpid(): "client", process.pid: "master"}
            kinds |= {child.pid: "zygote" for child in master.children()}
            began = _enqueue_traced(contender)
            wait_for(lambda: contender.finished() == 2, "the job", _LIMIT_S, process, log)
            time.sleep(2 * _AFTER_S)
            end = began + _AFTER_S
        calls = [_call(line) for line in out.read_text().splitlines()]
    return [call for call in calls if began <= call.at <= end], kinds


def _enqueue_traced(contender: Rqd) -> float:
    sys.path.insert(0, str(_TRACED))
    began = time.time()
    import sitecustomize  # noqa: F401 - traces from here on, as it does in the daemon

    contender.enqueue(tasks.noop)
    sys.setprofile(None)
    return began


def _call(line: str) -> Call:
    at, pid, file = line.split(" ", 2)
    return Call(float(at), int(pid), file)


def main() -> None:
    """Prints files, calls and switches of file, for each process and for all."""
    calls, kinds = trace()
    by_process: dict[str, list[str]] = {}
    for call in calls:
        by_process.setdefault(kinds.get(call.pid, "child"), []).append(call.file)
    total = Counter[str]()
    line = "{:7} {:4} files {:6,} calls {:5,} switches"
    for kind in ("client", "master", "zygote", "child"):
        files = by_process.get(kind, [])
        switches = sum(a != b for a, b in pairwise(files))
        total.update(calls=len(files), switches=switches)
        print(line.format(kind, len(set(files)), len(files), switches))
    files = {call.file for call in calls}
    print(
        f"{'all':7} {len(files):4} files {total['calls']:6,} calls {total['switches']:5,} switches"
    )
    if "--files" in sys.argv:
        print(*(f"{kind}: {' '.join(sorted(set(f)))}" for kind, f in by_process.items()), sep="\n")


if __name__ == "__main__":
    main()
