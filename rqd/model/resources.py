"""Limits of a job's memory and cpu time, set by the daemon or by the job's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.model.names import parse_duration_s, parse_size_bytes
from rqd.model.numbers import EXACT
from rqd.model.terms import read_terms

TERM = "resources"
# A child by itself dirties some 2 MiB; and a user who writes 512 means 512M.
_LEAST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits of a job's processes together: memory in bytes, cpu time in seconds; None for none."""

    memory_bytes: int | None = None
    cpu_s: float | None = None

    def __bool__(self) -> bool:
        return self.memory_bytes is not None or self.cpu_s is not None

    def of_job(self, terms: str) -> ResourceLimits:
        """Returns the limits of a job: its terms first, else these. Ignores damaged terms."""
        if f'"{TERM}"' not in terms:
            return self
        own = read_terms(terms).get(TERM)
        if not isinstance(own, dict):
            return self
        memory, cpu = _sound(own.get("memory_bytes")), _sound(own.get("cpu_s"))
        return ResourceLimits(
            self.memory_bytes if memory is None else _bytes(int(memory)),
            self.cpu_s if cpu is None else _seconds(cpu),
        )


NO_RESOURCE_LIMITS = ResourceLimits()


def resource_term(max_memory: int | str | None, max_cpu: float | str | None) -> dict[str, Any]:
    """Returns a job's limits as its term, -1 for no limit. Raises ConfigurationError."""
    term: dict[str, Any] = {}
    if (memory_bytes := parse_memory(max_memory, "max_memory")) is not None:
        term["memory_bytes"] = memory_bytes
    if (cpu_s := parse_cpu_time(max_cpu, "max_cpu")) is not None:
        term["cpu_s"] = cpu_s
    return term


def parse_memory(value: int | str | None, what: str) -> int | None:
    """Returns the bytes of `"512M"`, `"2G"` or a number; -1 (no limit) stays -1, None stays None.

    Raises ConfigurationError.
    """
    if value is None:
        return None
    text = str(value).strip()
    if text == "-1":
        return -1
    size_bytes = parse_size_bytes(text, what)
    if size_bytes < _LEAST_BYTES:
        raise ConfigurationError(f"{what} {text} is less than 1 MiB: write 1M or more, or -1")
    if size_bytes >= EXACT:
        raise ConfigurationError(f"{what} {text}: write less than {EXACT // 2**30:,}G, or -1")
    return size_bytes


def parse_cpu_time(value: float | str | None, what: str) -> float | None:
    """The seconds of `90`, `"5m"`; -1 (no limit) and None stay. Raises ConfigurationError."""
    seconds = parse_duration_s(value, what)
    if seconds == 0:
        raise ConfigurationError(f"{what} 0 would end each job at once: write seconds, or -1")
    return seconds


def limits_of(max_memory: str | None, max_cpu: str | None) -> ResourceLimits:
    """Returns a daemon's limits from its options. Raises ConfigurationError."""
    memory_bytes = parse_memory(max_memory, "--max-memory")
    return ResourceLimits(_bytes(memory_bytes), _seconds(parse_cpu_time(max_cpu, "--max-cpu")))


def _bytes(value: int | None) -> int | None:
    return None if value == -1 else value


def _seconds(value: float | None) -> float | None:
    return None if value == -1 else value


def _sound(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if value == -1 or 0 < value < EXACT else None
