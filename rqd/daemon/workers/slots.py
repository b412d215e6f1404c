"""The workers' slots: asks zygotes for a child in each, gives it its job, lets it go."""

from __future__ import annotations

from itertools import islice

from rqd.daemon.event_loop import Loop
from rqd.daemon.host.cgroups import SlotGroup
from rqd.daemon.host.procfs import cpu_s
from rqd.daemon.log.log import Log, about
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.prefetch import Prefetch
from rqd.daemon.workers.stack_file import StackFile
from rqd.daemon.workers.worker import Attempt, Child, Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygotes.events import Forked
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess

_TRY_AGAIN_S = 0.5


class Slots:
    """Keeps a child of the serving zygote in the slot of each worker that is wanted."""

    def __init__(
        self, workers: Workers, zygotes: Zygotes, outputs: Outputs, loop: Loop, log: Log
    ) -> None:
        self._workers = workers
        self._zygotes = zygotes
        self._outputs = outputs
        self._loop = loop
        self._log = log
        self.ahead = Prefetch(workers)
        self.by_channel: dict[int, Worker] = {}
        self.refill_at: dict[int, float] = {}  # by worker
        self._unfilled: list[tuple[Worker, OSError]] = []
        self.parents: dict[int, ZygoteProcess] = {}  # by worker: its child's zygote

    def fill(self, worker: Worker, now: float) -> None:
        """Asks for a child in this slot; again in half a second if its pipes can't be had."""
        zygote = self._zygotes.serving
        if zygote is None or (worker.child and self.parents.get(worker.number) is not zygote):
            return  # no zygote, or an old zygote's child is at its job: its end fills the slot
        try:
            output_fd = zygote.fill(worker.number)
        except OSError as error:
            self._log.warning("can't fork, trying again", worker=worker.number, error=error)
            self.fill_later(worker, now)
            self._unfilled.append((worker, error))
            return
        if zygote.group_error:
            self._log.warning("a worker has no control group", error=zygote.group_error)
            zygote.group_error = ""
        if output_fd is not None:
            self._outputs.watch(output_fd, worker)

    def forget_pipes(self, zygote: ZygoteProcess, worker: Worker) -> None:
        """Closes the pipes of a slot that its zygote has not received. `fill` makes new ones."""
        if (output_fd := zygote.outputs.get(worker.number)) is not None:
            self._outputs.forget(output_fd)
            zygote.forget_place(worker.number)

    def of(self, zygote: ZygoteProcess) -> list[Worker]:
        """The workers whose children this zygote has forked."""
        parents = self.parents
        return [worker for worker in self._workers if parents.get(worker.number) is zygote]

    def fill_later(self, worker: Worker, now: float) -> None:
        """Asks again in half a second, if the worker is still wanted.

        No job is claimed for it until it has a child: it would be put back at each failure.
        """
        if worker.wanted:
            self.refill_at[worker.number] = now + _TRY_AGAIN_S
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
            self.fill(self._workers.by_number[number], now)

    def attach(self, zygote: ZygoteProcess, forked: Forked, now: float) -> bool:
        """Puts a new child into its slot, and gives it a job if there is one.

        True if it is the first child in the slot, or the slot could not be filled before.
        """
        if zygote is not self._zygotes.serving:
            forked.close()
            return False  # it crossed with a reload, and leaves
        worker = self._workers.by_number[forked.worker]
        is_news, worker.has_lived = worker.lacks_child or not worker.has_lived, True
        self._workers.attach(forked, zygote.generation)
        self.parents[worker.number] = zygote
        if worker.wanted:
            self.send(worker, now)
        else:
            self._workers.retire_after_current(worker, now)  # retired while it was forked
        return is_news

    def listen(self, worker: Worker) -> None:
        """Decides if its child is quiet from now on; watches its channel and pipes if not."""
        was_quiet, worker.is_quiet = worker.is_quiet, worker.may_batch_reads
        child = worker.child
        if was_quiet:
            self._outputs.listen(worker)  # else its job blocks on a full pipe
        if worker.is_quiet:
            return
        # A child needs no more watching after its last answer: its exit is reported, and the end of
        # its channel would wake us for nothing.
        is_at_work = worker.attempt is not None and worker.attempt.started_at is not None
        if child is not None and not child.is_deaf and (is_at_work or child.jobs_left):
            self._watch(worker, child)

    def send(self, worker: Worker, now: float) -> None:
        """Gives a waiting child its worker's job, if both are there.

        A reused child gets the prefetched jobs, too.
        """
        self._send(worker, now)
        self.ahead.post(worker, now)

    def _send(self, worker: Worker, now: float) -> None:
        attempt, child = worker.attempt, worker.child
        is_sent = attempt is not None and attempt.started_at is not None
        if attempt is None or is_sent or child is None or child.jobs_left < 1:
            return
        if attempt.limits.cpu_s is not None:
            attempt.cpu_before_s = cpu_s([child.pid])
        if group := self._group_of(worker):
            self._hold(group, attempt)
        if worker.ended_at != now:
            # Output since the last end is of a process that is gone by now, and of no job.
            self._outputs.take(worker, None)
        if self._workers.send(worker, now):
            self._watch(worker, child)
        if attempt.started_at is not None:
            self._log.debug(
                "job started", **about(attempt.claim), worker=attempt.worker, pid=child.pid
            )

    def push(self, worker: Worker) -> None:
        """Writes its child's outbox; the rest when there is room."""
        if self._workers.push(worker) and worker.child is not None:
            self._watch(worker, worker.child)

    def drop_child(self, worker: Worker) -> None:
        """Closes and forgets its child. An idle child reads the end of its channel, and leaves."""
        if worker.child is not None:
            self.stop_hearing(worker.child)
            self._workers.detach(worker)
            self.parents.pop(worker.number, None)

    def stop_hearing(self, child: Child) -> None:
        """Forgets its channel, which is about to be closed."""
        self.by_channel.pop(child.channel.fileno(), None)

    def resize_to(self, count: int, now: float) -> None:
        """Sets the number of workers, to 1 at least.

        New workers come in the lowest free slots. The highest slots retire first.
        """
        wanted = {worker.number for worker in self._workers if worker.wanted}
        free = (number for number in range(1, count + 1) if number not in wanted)
        for number in islice(free, max(0, count - len(wanted))):
            worker = self._workers.by_number.setdefault(number, Worker(number))
            worker.wanted = True
            self.fill(worker, now)
        for number in sorted(wanted)[max(1, count) :]:
            self._retire(self._workers.by_number[number], now)

    def retire_all(self, now: float) -> None:
        """Retires all workers: no new children; idle children leave, busy ones after their job."""
        for worker in self._workers:
            self._retire(worker, now)

    def change_over(self, now: float) -> None:
        """Replaces the old zygote's children: idle children leave, busy ones after their job."""
        for worker in self._workers:
            for zygote in self._zygotes.leaving:
                if not zygote.is_dismissed:
                    zygote.empty(worker.number)
            worker.recall()
            if worker.attempt is None or worker.attempt.started_at is None:
                self.drop_child(worker)
                self.refill_at.pop(worker.number, None)
                if worker.wanted:
                    self.fill(worker, now)
            else:
                self._workers.retire_after_current(worker, now)

    def stacks_of(self, number: int) -> StackFile | None:
        """The file to which the child in this slot writes its stacks; None without a child."""
        zygote = self.parents.get(number)
        return zygote.stacks[number] if zygote is not None else None

    def _retire(self, worker: Worker, now: float) -> None:
        worker.wanted = False
        self.refill_at.pop(worker.number, None)
        if self._zygotes.serving is not None:
            self._zygotes.serving.empty(worker.number)
        # Not forgotten before it is gone: the slot may be wanted again, and has no room till then.
        self._workers.retire_after_current(worker, now)

    def _watch(self, worker: Worker, child: Child) -> None:
        fd, has_more = child.channel.fileno(), bool(child.outbox)
        if not child.is_watched:
            child.is_watched, self.by_channel[fd] = True, worker
            self._loop.watch_once(fd)
            if not has_more:
                return
        self._loop.watch_again(fd, writable=has_more)

    def _group_of(self, worker: Worker) -> SlotGroup | None:
        zygote = self.parents.get(worker.number)
        return zygote.groups.get(worker.number) if zygote is not None else None

    def _hold(self, group: SlotGroup, attempt: Attempt) -> None:
        try:
            group.limit_memory(attempt.limits.memory_bytes)
        except OSError as error:
            self._log.warning(
                "a control group takes no limit", folder=str(group.folder), error=error
            )
