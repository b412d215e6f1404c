"""What no daemon on this machine can pass: forks a second, and scripts a second."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, Run
from benchmarks.contenders.base import WORKERS
from benchmarks.processes import BenchmarkError
from benchmarks.results import Claimed, Quantity

_SOURCE = Path(__file__).parent.parent / "apps" / "fork.c"
_FORKS, _SCRIPTS = 4000, 60_000
_TIMEOUT_S = 60.0
_EMPTY_PYTHON = f"""
import os, time
began = time.perf_counter()
for _ in range({_FORKS} // {WORKERS}):
    for _ in range({WORKERS}):
        if os.fork() == 0:
            os._exit(0)
    for _ in range({WORKERS}):
        os.wait()
print({_FORKS} / (time.perf_counter() - began))
"""


class Limits:
    """Beside the bare loop, which stands in `fork`."""

    name = "limits"
    quantities: tuple[Quantity, ...] = (Quantity("limits", "limits of this machine", "a second"),)
    claims: tuple[Claimed, ...] = ()

    def runs(self, bench: Bench) -> list[Run]:
        """Each a program of its own."""
        rows: dict[str, Callable[[Bench], float]] = {
            "fork, _exit and wait in C, 4 at a time": _fork_in_c,
            "the same in a Python without imports": _fork_in_python,
            "EVALSHA of an empty script, 4 clients": _scripts,
        }
        return [Run(row, partial(_measure, bench, measure), 1) for row, measure in rows.items()]


def _measure(bench: Bench, measure: Callable[[Bench], float]) -> Mapping[str, float]:
    return {"limits": measure(bench)}


def _fork_in_c(bench: Bench) -> float:
    program = bench.server.folder / "fork"
    if not program.exists():
        _output([_found("gcc"), "-O2", "-o", str(program), str(_SOURCE)])
    return float(_output([str(program), str(WORKERS), str(_FORKS)]))


def _fork_in_python(_: Bench) -> float:
    return float(_output([sys.executable, "-I", "-S", "-c", _EMPTY_PYTHON]))


def _scripts(bench: Bench) -> float:
    program = _found("redis-benchmark", "valkey-benchmark")
    digest = str(bench.server.client.script_load("return 1"))
    _, port = bench.server.address
    command = [program, "-p", str(port), "-n", str(_SCRIPTS), "-c", str(WORKERS), "--csv"]
    *_, row = csv.reader(_output([*command, "EVALSHA", digest, "0"]).splitlines())
    return float(row[1])


def _found(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise BenchmarkError(f"no {' or '.join(names)} here")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise BenchmarkError(f"{command[0]}: status {done.returncode}\n{done.stderr}")
    return done.stdout
