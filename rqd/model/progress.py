"""A running job's progress, as it stands in its hash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """A share of the work from 0 to 1, the job's message about it, and the time of its report."""

    fraction: float
    message: str
    updated_at: datetime

    def __str__(self) -> str:
        return f"{self.fraction:.0%} {self.message}".rstrip()


def read_progress(text: str, fence: int) -> Progress | None:
    """Reads the progress of the attempt with this fence; None without, or if it is damaged."""
    try:
        told_by, at_us, fraction, message = text.split(" ", 3)
        share = float(fraction)
        instant = datetime.fromtimestamp(int(at_us) / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    is_share = math.isfinite(share) and 0 <= share <= 1
    return Progress(share, message, instant) if is_share and told_by == str(fence) else None
