"""Keeps a child of the serving zygote in the slot of each worker that is wanted."""

from __future__ import annotations

from itertools import islice

from rqd.daemon.log.log import Log
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.reused import Reused
from rqd.daemon.workers.single_use import SingleUse
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygotes.events import Forked
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess

_TRY_AGAIN_S = 0.5


class Slots:
    """Asks zygotes for children, and puts them into their workers."""

    def __init__(self, workers: Workers, zygotes: Zygotes, outputs: Outputs, log: Log) -> None:
        self.workers = workers
        self.outputs = outputs
        self._zygotes = zygotes
        self._log = log
        self.refill_at: dict[int, float] = {}  # by worker
        self._unfilled: list[tuple[Worker, OSError]] = []

    def fill(self, worker: Worker, now: float) -> None:
        """Asks for a child in this slot; again in half a second if its pipes can't be had."""
        zygote, child = self._zygotes.table.serving, worker.child
        if zygote is None or (child is not None and child.parent is not zygote):
            return  # no zygote, or an old zygote's child is at its job: its end fills the slot
        try:
            output_fd = zygote.fill(worker.number)
        except OSError as error:
            self._log.warning("can't fork, trying again", worker=worker.number, error=error)
            self.fill_later(worker, now)
            self._unfilled.append((worker, error))
            worker.timer.hasten(now)
            return
        if zygote.group_error:
            self._log.warning("a worker has no control group", error=zygote.group_error)
            zygote.group_error = ""
        if output_fd is not None:
            self.outputs.watch(output_fd, worker)

    def fill_later(self, worker: Worker, now: float) -> None:
        """Asks again in half a second, if the worker is still wanted.

        No job is claimed for it until it has a child: it would be put back at each failure.
        """
        if worker.wanted:
            self.refill_at[worker.number] = now + _TRY_AGAIN_S
            worker.timer.hasten(now + _TRY_AGAIN_S)
            worker.lacks_child = True

    def take_unfilled(self) -> list[tuple[Worker, OSError]]:
        """Returns the workers for which no child could be asked since the last call, with the
        errors.
        """
        unfilled, self._unfilled = self._unfilled, []
        return unfilled

    def fill_due(self, now: float) -> None:
        """Asks again for the children whose time to try again has come."""
        for number in [n for n, at in self.refill_at.items() if now >= at]:
            del self.refill_at[number]
            self.fill(self.workers.by_number[number], now)

    def attach(self, zygote: ZygoteProcess, forked: Forked) -> bool:
        """Puts a new child into its slot; False, and it leaves, if it crossed with a reload."""
        if zygote is not self._zygotes.table.serving:
            forked.close()
            return False
        worker = self.workers.by_number[forked.worker]
        jobs = self._zygotes.spawner.config.jobs_per_child
        worker.splitter.clear()
        worker.child = link_to(forked, zygote, jobs, worker)
        worker.lacks_child = False
        return True

    def of(self, zygote: ZygoteProcess) -> list[Worker]:
        """The workers whose children this zygote has forked."""
        return [one for one in self.workers if one.child and one.child.parent is zygote]

    def forget_pipes(self, zygote: ZygoteProcess, worker: Worker) -> None:
        """Closes the pipes of a slot that its zygote has not received. `fill` makes new ones."""
        if (output_fd := zygote.outputs.get(worker.number)) is not None:
            self.outputs.forget(output_fd)
            zygote.forget_place(worker.number)

    def resize_to(self, count: int, now: float) -> None:
        """Sets the number of workers, to 1 at least.

        New workers come in the lowest free slots. The highest slots retire first.
        """
        wanted = {worker.number for worker in self.workers if worker.wanted}
        free = (number for number in range(1, count + 1) if number not in wanted)
        for number in islice(free, max(0, count - len(wanted))):
            worker = self.workers.add(number)
            worker.wanted = True
            self.fill(worker, now)
        for number in sorted(wanted)[max(1, count) :]:
            self._retire(self.workers.by_number[number], now)

    def retire_all(self, now: float) -> None:
        """Retires all workers: no new children; idle children leave, busy ones after their job."""
        for worker in self.workers:
            self._retire(worker, now)

    def change_over(self, now: float) -> None:
        """Replaces the old zygote's children: idle children leave, busy ones after their job."""
        for worker in self.workers:
            for zygote in self._zygotes.table.leaving:
                if not zygote.is_dismissed:
                    zygote.empty(worker.number)
            worker.recall()
            if worker.attempt is None or worker.attempt.started_at is None:
                worker.detach()
                self.refill_at.pop(worker.number, None)
                if worker.wanted:
                    self.fill(worker, now)
            else:
                worker.retire_after_current(now)

    def _retire(self, worker: Worker, now: float) -> None:
        worker.wanted = False
        self.refill_at.pop(worker.number, None)
        if self._zygotes.table.serving is not None:
            self._zygotes.table.serving.empty(worker.number)
        # Not forgotten before it is gone: the slot may be wanted again, and has no room till then.
        worker.retire_after_current(now)
        worker.timer.hasten(now)  # its jobs go back


def link_to(forked: Forked, zygote: ZygoteProcess | None, jobs: int, worker: Worker) -> Link:
    """Returns the link to a new child, for so many jobs: `Reused` if it has a mailbox."""
    if forked.mailbox is None:
        return SingleUse(forked, zygote)
    return Reused(forked, zygote, jobs, forked.mailbox, worker.splitter)
