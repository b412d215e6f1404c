"""Timers: what the master does from time to time, and when the next of it is due."""

from __future__ import annotations

from enum import Enum


class Duty(Enum):
    """A recurring task and its interval in seconds."""

    BEAT = 5.0  # leases, rows, commands
    POLL = 1.0  # look for work though no marker came: another's waiter may have swallowed one
    SAMPLE = 1.0  # memory of running jobs
    EMBEDDED = 0.25  # the embedded server, only while Redis is gone


class Duties:
    """When each duty is due, in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._due = dict.fromkeys(Duty, now)

    def take(self, duty: Duty, now: float) -> bool:
        """True if the duty is due; then its next time is one interval away."""
        if now < self._due[duty]:
            return False
        self._due[duty] = now + duty.value
        return True

    def hasten(self, duty: Duty, at: float) -> None:
        """Makes the duty due at `at`, unless it is due earlier."""
        self._due[duty] = min(self._due[duty], at)

    def postpone(self, duty: Duty, at: float) -> None:
        """Makes the duty due no earlier than `at`."""
        self._due[duty] = max(self._due[duty], at)

    def next_due(self, *duties: Duty) -> float:
        """The earliest time at which one of these is due."""
        return min(self._due[duty] for duty in duties)
