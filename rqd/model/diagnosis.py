"""What an examination of the surroundings found: `rqd doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands: fine, worth a change, or in the way of any work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do, empty where nothing is."""

    what: str
    verdict: Verdict
    seen: str
    advice: str = ""


def judged(what: str, seen: str, *, fine: bool, advice: str) -> Finding:
    """OK if fine, else a warning with the advice."""
    return Finding(what, Verdict.OK, seen) if fine else Finding(what, Verdict.WARNING, seen, advice)
