"""Whether the machine is ours: what others use of its processors just before a run."""

from __future__ import annotations

import time

import psutil

QUIET_SHARE = 0.1
_LOOK_S = 0.25


def wait_for_quiet(limit_s: float) -> float:
    """Waits, at most so long, until others leave the machine alone; returns their last share."""
    deadline = time.monotonic() + limit_s
    while (share := _busy_share()) > QUIET_SHARE and time.monotonic() < deadline:
        pass
    return share


def _busy_share() -> float:
    """Of all processors, over a moment in which we do nothing ourselves."""
    return psutil.cpu_percent(_LOOK_S) / 100
