"""Gives jobs to children and reads them, each when it is time to.

A child is read at once if the master has to act on its answer. If it goes on by itself, or leaves,
it is quiet. Quiet children are read together, when it is time to.
"""

from __future__ import annotations

import math
from dataclasses import replace

from rqd.daemon.event_loop import Loop
from rqd.daemon.host.procfs import cpu_s
from rqd.daemon.log.log import Log, about
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.link import Link
from rqd.daemon.workers.output import Outputs
from rqd.daemon.workers.reader import Ended, read
from rqd.daemon.workers.slots import Slots
from rqd.daemon.workers.worker import Worker
from rqd.daemon.workers.workers import Workers
from rqd.daemon.zygotes.process import ZygoteProcess


class Channels:
    """The channels to the children of all workers."""

    def __init__(
        self, workers: Workers, slots: Slots, outputs: Outputs, loop: Loop, log: Log
    ) -> None:
        self._workers = workers
        self._slots = slots
        self._outputs = outputs
        self._loop = loop
        self._log = log
        # A closed channel stays here until its descriptor is another channel's.
        self._by_fd: dict[int, Worker] = {}
        self.read_quiet_at = math.inf

    # -- jobs go out --------------------------------------------------------------------------

    def start(self, worker: Worker, now: float) -> None:
        """Gives a waiting child its worker's job, if both are there, and the jobs behind it."""
        attempt, child = worker.attempt, worker.child
        if attempt and child and attempt.is_held and child.jobs_left > 0:
            self._start(worker, attempt, child, now)
        if worker.prefetched:
            prefetch.hand_over(worker, self._workers, now)

    def _start(self, worker: Worker, attempt: Attempt, child: Link, now: float) -> None:
        if not self._workers.may_start(attempt, now):
            return
        if attempt.limits.cpu_s is not None:
            attempt.cpu_before_s = cpu_s([child.pid])
        if child.parent is not None and child.parent.groups:
            self._limit_group(child, attempt)
        if worker.ended_at != now:
            # Output since the last end is of a process that is gone by now, and of no job.
            self._outputs.take(worker, None)
        if worker.start_next(now):
            self.push(worker)
            self._log.debug(
                "job started", **about(attempt.claim), worker=worker.number, pid=child.pid
            )

    def push(self, worker: Worker) -> None:
        """Writes its child's outbox; the rest when there is room."""
        if worker.child is not None and worker.child.push():
            self._watch(worker, worker.child)

    # -- frames come in -----------------------------------------------------------------------

    def read_ready(self, ready: set[int], now: float) -> list[Ended]:
        """Reads the ready channels and output pipes; and all quiet children, if it is time."""
        ended: list[Ended] = []
        for fd in ready:
            worker = self._by_fd.get(fd)
            if worker and worker.child is not None and worker.child.channel.fileno() == fd:
                ended += self._read(worker, now)
            else:
                self._outputs.read(fd)
        return ended + self.read_batched(now) if now >= self.read_quiet_at else ended

    def read_batched(self, now: float) -> list[Ended]:
        """Reads all quiet children; returns the attempts that ended."""
        self.read_quiet_at = math.inf
        quiet = [worker for worker in self._workers.by_number.values() if worker.is_quiet]
        return [one for worker in quiet for one in self._read(worker, now)]

    def listen(self, worker: Worker, now: float) -> None:
        """Has a worker's child read as soon as it writes, or with the next batch if it is quiet."""
        was_quiet, worker.is_quiet = worker.is_quiet, worker.may_batch_reads
        if was_quiet:
            self._outputs.watch_again(worker)  # else its job blocks on a full pipe
        child, attempt = worker.child, worker.attempt
        if worker.is_quiet:
            # A wake for the answers of several children, not a wake for each job.
            self.read_quiet_at = min(self.read_quiet_at, now + prefetch.read_in_s(worker, now))
            worker.timer.hasten(self.read_quiet_at)
            return
        # A child needs no more watching after its last answer: its exit is reported, and the end of
        # its channel would wake us for nothing.
        is_at_work = attempt is not None and not attempt.is_held
        if child is not None and not child.is_deaf and (is_at_work or child.jobs_left):
            self._watch(worker, child)

    def stop_prefetch(self, worker: Worker, now: float) -> list[Ended]:
        """Takes back the worker's prefetched jobs, so that its current attempt is known and the
        last in its process.

        Returns the attempts that ended before it.
        """
        worker.recall()
        if not worker.has_queued:
            return []
        # Its child has begun the next job, so the answer of the job before is there.
        return self._complete_living(worker, read(worker, now), now)

    def complete(
        self, worker: Worker, zygote: ZygoteProcess | None, ended: list[Ended]
    ) -> list[Ended]:
        """Adds output and stacks to the reports of attempts of a process, in their order."""
        if worker.attempt is not None:
            self._workers.note_updates(worker.attempt)
        if not ended:
            return ended
        whole = [self._complete(worker, None, one) for one in ended[:-1]]
        # The stacks in the file may be of a job that it has begun since: of its crash, say.
        is_latest = worker.attempt is None or worker.attempt.is_held
        whole.append(self._complete(worker, zygote if is_latest else None, ended[-1]))
        if self._workers.knows_suspects:
            worker.timer.hasten(0.0)  # others may start now
        return whole

    def _read(self, worker: Worker, now: float) -> list[Ended]:
        self.push(worker)
        ended = self._complete_living(worker, read(worker, now, is_alive=True), now)
        if ended:
            self.start(worker, now)
        self.listen(worker, now)
        return ended

    def _complete_living(self, worker: Worker, ended: list[Ended], now: float) -> list[Ended]:
        child = worker.child
        if child is None:
            return ended
        ended = self.complete(worker, child.parent, ended)
        is_done = worker.attempt is None or worker.attempt.is_held
        if ended and is_done and child.parent is not None and child.parent.is_retired:
            worker.detach()  # at once: the slot need not wait for its exit
            if worker.wanted:
                self._slots.fill(worker, now)
        return ended

    def _complete(self, worker: Worker, zygote: ZygoteProcess | None, ended: Ended) -> Ended:
        self._workers.note_updates(ended.attempt)
        tail, output_bytes = self._outputs.take(worker, ended.attempt)
        stack = ""
        if zygote is not None:
            stack = zygote.stacks[worker.number].take(ended.attempt.stack_from)
        if not (output_bytes or stack):
            return ended
        report = replace(ended.report, output_tail=tail, output_bytes=output_bytes, stack=stack)
        return Ended(ended.attempt, report)

    def _watch(self, worker: Worker, child: Link) -> None:
        fd, has_more = child.channel.fileno(), bool(child.outbox)
        if not child.is_watched:
            child.is_watched, self._by_fd[fd] = True, worker
            self._loop.watch_once(fd)
            if not has_more:
                return
        self._loop.watch_again(fd, writable=has_more)

    def _limit_group(self, child: Link, attempt: Attempt) -> None:
        group = child.parent.groups.get(child.worker) if child.parent is not None else None
        if group is None:
            return
        try:
            group.limit_memory(attempt.limits.memory_bytes)
        except OSError as error:
            self._log.warning(
                "a control group takes no limit", folder=str(group.folder), error=error
            )
