"""Limits by key: how many jobs run at a time, and how many start in a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.names import check_key, parse_duration_s
from rqd.model.numbers import is_number, is_whole

_MOST = 10**6


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit that all jobs with this key share, in all queues and on all hosts (RQ's RateLimit).

    `concurrency`: how many run at a time. `rate`: how many start per `per` (seconds, or as `"1m"`),
    of which up to `burst` at once after a quiet time; None: as many as `rate`. One of the two is
    needed, both may be given. Raises ConfigurationError.
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
                f"RateLimit({self.key!r}): write concurrency=.., how many run at a time, or"
                " rate=.., how many start per second"
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
        """What the job's terms say of it: numbers as the scripts take them."""
        term: dict[str, Any] = {"key": self.key}
        if self.concurrency is not None:
            term["concurrency"] = self.concurrency
        if self.rate is not None:
            term["every_us"] = max(1, round(self._per_s() * 1_000_000 / self.rate))
            term["burst"] = self.burst or max(1, round(self.rate))
        return term

    def _per_s(self) -> float:
        return parse_duration_s(self.per, "RateLimit's per") or 0.0
