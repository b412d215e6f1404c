"""Asks the processes of running jobs for their stacks, and reads these from the slots' files."""

from __future__ import annotations

from rqd.daemon.host.pidfd import show_stack_by_pidfd
from rqd.daemon.workers.forensics import catches
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Run
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygote.protocol import STACK_SIGNAL


class JobStacks:
    """The stacks of running jobs, on request."""

    def __init__(self, workers: Workers, places: Slots) -> None:
        self._workers = workers
        self._places = places

    def show(self, run: Run) -> int | None:
        """Has a running job's process write its stacks; returns the byte at which they will begin.

        None if it can't: it is gone, or the job has become another program, which would die of the
        signal.
        """
        child = self._workers.by_number[run.worker].child
        stacks = self._places.stacks_of(run.worker)
        if child is None or stacks is None or not catches(child.pid, STACK_SIGNAL):
            return None
        start = stacks.written_bytes
        show_stack_by_pidfd(child.pidfd)
        return start

    def read(self, run: Run, start: int) -> str:
        """The stacks that its process has written from byte `start` on."""
        stacks = self._places.stacks_of(run.worker)
        return stacks.read(start) if stacks is not None else ""

    def forget(self, run: Run) -> None:
        """Drops the stacks that were read, unless the coming kill needs them."""
        stacks = self._places.stacks_of(run.worker)
        if stacks is not None and not run.is_stack_asked:
            stacks.forget()
