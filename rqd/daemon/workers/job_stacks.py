"""Asks the processes of running jobs for their stacks, and reads these from the slots' files."""

from __future__ import annotations

from rqd.daemon.host.pidfd import show_stack_by_pidfd
from rqd.daemon.workers.forensics import catches
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Attempt
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote.protocol import STACK_SIGNAL


class JobStacks:
    """The stacks of running jobs, on request."""

    def __init__(self, workers: Workers, slots: Slots) -> None:
        self._workers = workers
        self._slots = slots

    def show(self, attempt: Attempt) -> int | None:
        """Has a running job's process write its stacks; returns the byte at which they will begin.

        None if it can't: it is gone, or the job has become another program, which would die of the
        signal.
        """
        child = self._workers.by_number[attempt.worker].child
        stacks = self._slots.stacks_of(attempt.worker)
        if child is None or stacks is None or not catches(child.pid, STACK_SIGNAL):
            return None
        start = stacks.written_bytes
        show_stack_by_pidfd(child.pidfd)
        return start

    def read(self, attempt: Attempt, start: int) -> str:
        """The stacks that its process has written from byte `start` on."""
        stacks = self._slots.stacks_of(attempt.worker)
        return stacks.read(start) if stacks is not None else ""

    def forget(self, attempt: Attempt) -> None:
        """Drops the stacks that were read, unless the coming kill needs them."""
        stacks = self._slots.stacks_of(attempt.worker)
        if stacks is not None and not attempt.is_stack_asked:
            stacks.forget()
