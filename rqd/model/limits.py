"""Limits of concurrency and rate, and unique keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.names import check_key, parse_duration_s
from rqd.model.numbers import is_number, is_whole
from rqd.model.terms import read_terms

_MOST = 10**6


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit that all jobs with this key share, in all queues and on all hosts (RQ's RateLimit).

    `concurrency`: how many run at a time. `rate`: how many start per `per` (seconds, or as `"1m"`),
    of which up to `burst` at once after a quiet time; None: as many as `rate`. At least one of
    `concurrency` and `rate` is needed. Raises ConfigurationError.
    """

    key: str
    concurrency: int | None = None
    rate: float | None = None
    per: float | str = 1
    burst: int | None = None

    def __post_init__(self) -> None:
        check_key(self.key, "RateLimit key")
        if self.concurrency is None and self.rate is None:
            raise ConfigurationError(
                f"RateLimit({self.key!r}): write concurrency=.., the jobs at a time, or"
                " rate=.., the starts per second"
            )
        for name in ("concurrency", "burst"):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and 1 <= value <= _MOST):
                raise ConfigurationError(f"RateLimit({name}={value!r}): write 1 to {_MOST:,}")
        if self.rate is not None and not (is_number(self.rate) and 0 < self.rate <= _MOST):
            raise ConfigurationError(f"RateLimit(rate={self.rate!r}): write a number above 0")
        if self._per_s() <= 0:
            raise ConfigurationError(f"RateLimit(per={self.per!r}): write seconds, above 0")
        if self.burst is not None and self.rate is None:
            raise ConfigurationError("RateLimit(burst=..) needs rate=..")

    def term(self) -> dict[str, Any]:
        """Returns the limit as a term of the job: numbers as the scripts accept them."""
        term: dict[str, Any] = {"key": self.key}
        if self.concurrency is not None:
            term["concurrency"] = self.concurrency
        if self.rate is not None:
            term["every_us"] = max(1, round(self._per_s() * 1_000_000 / self.rate))
            term["burst"] = self.burst or max(1, round(self.rate))
        return term

    def _per_s(self) -> float:
        return parse_duration_s(self.per, "RateLimit's per") or 0.0


_SCOPES = ("started", "finished")
_CONFLICTS = ("refuse", "existing", "replace")


@dataclass(frozen=True, slots=True)
class Unique:
    """A key that at most a single job has at a time, in all queues of the namespace.

    `until` is when its job gives it up: `"finished"` (at its end, of any kind) or `"started"` (at
    its first start). Or it is a duration from its enqueue, in seconds or as `"1h"`.

    `on_conflict` is for another job with the key. `"refuse"` raises DuplicateJobError; `"existing"`
    returns the job that has it. `"replace"` cancels that job and takes its place if it still waits,
    and else refuses. Raises ConfigurationError.
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
        """Returns the key as a term of the job; a window in milliseconds."""
        is_scope = self.until in _SCOPES
        until = self.until if is_scope else max(1, round(self._window_s() * 1000))
        return {"key": self.key, "until": until, "on_conflict": self.on_conflict}

    def _window_s(self) -> float:
        return parse_duration_s(self.until, "until, if neither 'started' nor 'finished',") or 0.0


def may_be_left_out(terms: str) -> bool:
    """True if the enqueue may return another job in place of a job with these terms."""
    return conflict_of(terms) == "existing"


def conflict_of(terms: str) -> str | None:
    """Returns the conflict rule for another job with the key of these terms; None without a key."""
    rule = read_terms(terms).get("unique")
    return rule.get("on_conflict") if isinstance(rule, dict) else None
