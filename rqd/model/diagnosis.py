"""The findings of `rqd doctor` about a master's surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """A finding's verdict: fine, worth a change, or in the way of any work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a single check; `advice` says how to fix it, empty where all is well."""

    what: str
    verdict: Verdict
    seen: str
    advice: str = ""


def judged(what: str, seen: str, *, fine: bool, advice: str) -> Finding:
    """Returns a finding: OK if fine, else a warning with the advice."""
    return Finding(what, Verdict.OK, seen) if fine else Finding(what, Verdict.WARNING, seen, advice)
