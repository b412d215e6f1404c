"""What a process started by the tests sets for itself between fork and exec."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def found_first(folder: Path) -> dict[str, str]:
    """The variable by which a Python finds the modules of this folder, first of all."""
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"}


def bound_to_pytest(limit_s: float | None = None) -> Callable[[], None]:
    """A `preexec_fn`: the process dies with pytest, however that ends, and after `limit_s`.

    The limit is an alarm, which survives exec and is not inherited by the process's own children;
    None means no limit.
    """

    def between_fork_and_exec() -> None:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if limit_s is not None:
            signal.setitimer(signal.ITIMER_REAL, limit_s)

    return between_fork_and_exec
