"""Unique keys: one job at a time has a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.names import check_key, parse_duration_s
from rqd.model.terms import read_terms

_SCOPES = ("started", "finished")
_CONFLICTS = ("refuse", "existing", "replace")


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one job has this key, in all queues of the namespace.

    `until` is when its job gives it up: `"finished"` (at its end, whichever that is), `"started"`
    (at its first start), or a duration in seconds or as `"1h"`, from its enqueue. `on_conflict` is
    what becomes of another job with the key: `"refuse"` raises DuplicateJobError, `"existing"`
    returns the job that has it, `"replace"` cancels that one and takes its place, if it still
    waits, and else is refused. Raises ConfigurationError.
    """

    key: str
    until: str | float = "finished"
    on_conflict: str = "refuse"

    def __post_init__(self) -> None:
        check_key(self.key, "Unique key")
        if self.until not in _SCOPES and not self._window_s() > 0:
            raise ConfigurationError(f"Unique(until={self.until!r}): write seconds, above 0")
        if self.on_conflict not in _CONFLICTS:
            raise ConfigurationError(
                f"Unique(on_conflict={self.on_conflict!r}): write one of {', '.join(_CONFLICTS)}"
            )

    def term(self) -> dict[str, Any]:
        """What the job's terms say of it; a window in milliseconds."""
        is_scope = self.until in _SCOPES
        until = self.until if is_scope else max(1, round(self._window_s() * 1000))
        return {"key": self.key, "until": until, "on_conflict": self.on_conflict}

    def _window_s(self) -> float:
        return parse_duration_s(self.until, "until, if neither 'started' nor 'finished',") or 0.0


def may_be_left_out(terms: str) -> bool:
    """True if another job may be returned in place of the one with these terms."""
    return conflict_of(terms) == "existing"


def conflict_of(terms: str) -> str | None:
    """What the terms of a job say of another one with its key; None if it has no key."""
    told = read_terms(terms).get("unique")
    return told.get("on_conflict") if isinstance(told, dict) else None
