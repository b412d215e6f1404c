"""The master's periodic duties, and when each is due."""

from __future__ import annotations

from enum import Enum


class Duty(Enum):
    """A recurring task."""

    BEAT = "leases, rows, commands"
    POLL = "look for work though no marker came: another's waiter may have swallowed one"
    SAMPLE = "memory of running jobs"
    PULSE = "to systemd and others on this host: the loop goes round"
    EMBEDDED = "the embedded server, while Redis is gone"


INTERVAL_S = {
    Duty.BEAT: 5.0,
    Duty.POLL: 1.0,
    Duty.SAMPLE: 1.0,
    Duty.PULSE: 5.0,
    Duty.EMBEDDED: 0.25,
}


class Duties:
    """Holds when each duty is due, in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._due = dict.fromkeys(Duty, now)

    def take(self, duty: Duty, now: float) -> bool:
        """True if the duty is due; then moves its next time one interval away."""
        if now < self._due[duty]:
            return False
        self._due[duty] = now + INTERVAL_S[duty]
        return True

    def hasten(self, duty: Duty, at: float) -> None:
        """Makes the duty due at `at`, unless it is due earlier."""
        self._due[duty] = min(self._due[duty], at)

    def next_due(self, duty: Duty) -> float:
        """Returns when the duty is due next."""
        return self._due[duty]
