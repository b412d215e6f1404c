"""Reads the children's answers and their output, and finds the attempts that ended.

A child is read at once if the master has to act on its answer. If it goes on by itself, or leaves,
it is quiet. Quiet children are read together, when it is time to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rqd.daemon.workers.judging import Judging
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Attempt, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.model.outcome import Report


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with its report, to be settled."""

    attempt: Attempt
    report: Report


class ChildReader:
    """Chooses the children to read, and reads them."""

    def __init__(
        self,
        workers: Workers,
        slots: Slots,
        zygotes: Zygotes,
        outputs: Outputs,
        judging: Judging,
    ) -> None:
        self._workers = workers
        self._slots = slots
        self._zygotes = zygotes
        self._outputs = outputs
        self._judging = judging
        self._caught: list[Ended] = []
        self._quiet_until = math.inf

    @property
    def has_pending(self) -> bool:
        """True while `take_caught` has attempts to return."""
        return bool(self._caught)

    @property
    def next_due(self) -> float:
        """The next moment at which there is work without a ready descriptor; or infinity."""
        return 0.0 if self._caught else self._quiet_until

    def take_caught(self) -> list[Ended]:
        """Returns the attempts whose ends `read_now` has found since the last call."""
        caught, self._caught = self._caught, []
        return caught

    def hear(self, ready: set[int], now: float) -> list[Ended]:
        """Reads the ready channels and output pipes; and all quiet children, if it is time."""
        ended: list[Ended] = []
        for fd in ready:
            if worker := self._slots.by_channel.get(fd):
                ended += self._hear_child(worker, now)
            else:
                self._outputs.hear(fd)
        return ended + self.read_batched(now) if now >= self._quiet_until else ended

    def read_batched(self, now: float) -> list[Ended]:
        """Reads all quiet children; returns the attempts that ended."""
        self._quiet_until = math.inf
        quiet = [worker for worker in self._workers if worker.is_quiet]
        return [one for worker in quiet for one in self._hear_child(worker, now)]

    def listen(self, worker: Worker, now: float) -> None:
        """Has a worker's child read as soon as it writes, or with the next batch if it is quiet."""
        self._slots.listen(worker)
        if worker.is_quiet:
            # A wake for the answers of several children, not a wake for each job.
            self._quiet_until = min(
                self._quiet_until, now + self._slots.ahead.hear_in_s(worker, now)
            )

    def read_now(self, worker: Worker, now: float) -> None:
        """Does as `pin`; the attempts that ended by that wait for `take_caught`."""
        self._caught += self.pin(worker, now)

    def pin(self, worker: Worker, now: float) -> list[Ended]:
        """Takes back the worker's prefetched jobs, so that its current attempt is known and the
        last in its process.

        Returns the attempts that ended before it.
        """
        worker.recall()
        if not worker.has_queued:
            return []
        # Its child has begun the next job, so the answer of the job before is there.
        return self._hear(worker, now)

    def end_all(
        self,
        worker: Worker,
        zygote: ZygoteProcess | None,
        heard: list[tuple[Attempt, Report]],
        now: float,
    ) -> list[Ended]:
        """Completes the reports of attempts of one process with its output and stacks, in order."""
        ended = [self._end(worker, zygote, *one, is_latest=False) for one in heard[:-1]]
        # The stacks in the file may be of a job that it has begun since: of its crash, say.
        is_latest = not _may_have_begun_another(worker)
        ended += [self._end(worker, zygote, *one, is_latest=is_latest) for one in heard[-1:]]
        if heard:
            self._replace_old(worker, now)
        return ended

    def _hear_child(self, worker: Worker, now: float) -> list[Ended]:
        self._workers.push(worker)
        ended = self._hear(worker, now, is_alive=True)
        if ended:
            self._slots.send(worker, now)
        self.listen(worker, now)
        return ended

    def _hear(self, worker: Worker, now: float, is_alive: bool = False) -> list[Ended]:
        heard = self._judging.hear(worker, now, is_alive)
        return self.end_all(worker, self._slots.parents.get(worker.number), heard, now)

    def _end(
        self,
        worker: Worker,
        zygote: ZygoteProcess | None,
        attempt: Attempt,
        report: Report,
        *,
        is_latest: bool,
    ) -> Ended:
        tail, output_bytes = self._outputs.take(worker, attempt)
        stack = ""
        if zygote is not None and is_latest:
            stack = zygote.stacks[worker.number].take(attempt.stack_from)
        if output_bytes or stack:
            report = replace(report, output_tail=tail, output_bytes=output_bytes, stack=stack)
        return Ended(attempt, report)

    def _replace_old(self, worker: Worker, now: float) -> None:
        """Lets a process leave whose zygote retires, once its last job has ended."""
        is_old = self._slots.parents.get(worker.number) in self._zygotes.leaving
        if is_old and not _may_have_begun_another(worker):
            self._slots.drop_child(worker)
            if worker.wanted:
                self._slots.fill(worker, now)


def _may_have_begun_another(worker: Worker) -> bool:
    """True if its process was given another job behind the job that has just ended."""
    return worker.attempt is not None and worker.attempt.is_given
