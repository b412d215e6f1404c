"""The master's processes: the zygote that serves, those that come and go, and their children.

Feeds the worker table with what the loop saw, and yields the attempts that ended. The order within
a wake matters: the zygote's reports come first, and before an exit is judged the child's channel is
read to its end, so that a success is never taken for a crash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rqd.daemon.cgroups import GroupLimits, PlaceGroup, enter_subtree_if_asked
from rqd.daemon.config import Config
from rqd.daemon.forensics import catches
from rqd.daemon.frames import STACK_SIGNAL, FrameError
from rqd.daemon.instance import Instance
from rqd.daemon.log import Log, about
from rqd.daemon.loop import Loop
from rqd.daemon.oom import OomCounter, explain
from rqd.daemon.orphans import (
    become_subreaper,
    kill_descendants,
    kill_orphan,
    reap_strangers,
)
from rqd.daemon.pidfd_signals import kill_by_pidfd, show_stack_by_pidfd
from rqd.daemon.procfs import cpu_s
from rqd.daemon.stacks import StackFile
from rqd.daemon.worker import Run, Worker
from rqd.daemon.workers import Workers
from rqd.daemon.zygote_events import (
    BootFailed,
    Exited,
    Forked,
    ForkFailed,
    Ready,
    ZygoteEvent,
)
from rqd.daemon.zygote_process import ZygoteProcess
from rqd.daemon.zygote_spawn import settings_of_zygote
from rqd.daemon.zygotes import Zygotes, ZygotesState
from rqd.model.outcome import (
    AskedAgain,
    Lost,
    Outcome,
    Parked,
    Released,
    Report,
    Stopped,
    Succeeded,
    TimedOut,
    cause,
)
from rqd.model.records import Claim

_READ_BYTES = 65536
_LAST_READS = 16
_KILL_FALLBACK_S = 1.0
# What leaves a worker no error to show.
_NO_ERRORS = Succeeded | AskedAgain | Released | Parked | Lost | Stopped


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, to be settled."""

    run: Run
    report: Report


@dataclass(frozen=True, slots=True)
class ChildrenState:
    """All processes and places at one moment."""

    zygotes: ZygotesState
    workers: tuple[Worker, ...]
    parents: tuple[tuple[int, int], ...]  # of the child in each place: its zygote's pid
    refill_at: tuple[tuple[int, float], ...]

    @property
    def fds(self) -> list[int]:
        """The descriptors of all of them."""
        children = [worker.child for worker in self.workers if worker.child is not None]
        fds = [fd for child in children for fd in (child.channel.fileno(), child.pidfd)]
        zygotes = (self.zygotes.serving, *self.zygotes.leaving)
        return [*fds, *(fd for zygote in zygotes for fd in zygote.fds)]


class Children:
    """Zygote, children, and the places they are in."""

    def __init__(self, config: Config, instance: Instance, loop: Loop, log: Log) -> None:
        self.config = config
        self._next_config = config  # of the zygote that is to follow
        self._instance = instance
        self._loop = loop
        self._log = log
        self._by_channel: dict[int, Worker] = {}
        self._by_output: dict[int, Worker] = {}
        self._refill_at: dict[int, float] = {}
        self._parents: dict[int, ZygoteProcess] = {}  # of the child in each place
        self.zygotes = Zygotes(self._spawn, loop, log)
        self.workers = Workers(config.jobs_per_child, config.limits)
        self.has_news = False  # a place has come to life: worth a heartbeat of its own
        # Before anything is started: it would be in the group that has to be left.
        self._subtree = enter_subtree_if_asked(_held(config), log)
        self.oom_counter = OomCounter()
        become_subreaper()

    def start(self, now: float) -> None:
        """Starts a zygote for the configured number of workers."""
        for number in range(1, self.config.workers + 1):
            self.workers.by_number[number] = Worker(number)
        self._boot(now)

    def take_over(self, told: ChildrenState, now: float) -> None:
        """Goes on with the processes of the master that was executed before in this process."""
        self.zygotes.take_over(told.zygotes, self._subtree)
        self.workers.take_over(told.workers, now)
        by_pid = {zygote.pid: zygote for zygote in self.zygotes}
        self._parents = {number: by_pid[pid] for number, pid in told.parents}
        self._refill_at = dict(told.refill_at)
        for zygote in self.zygotes:
            for number, fd in zygote.outputs.items():
                self._by_output[fd] = self.workers.by_number[number]
                self._loop.watch(fd)
        for worker in self.workers:
            if worker.child is not None:
                fd = worker.child.channel.fileno()
                self._by_channel[fd] = worker
                self._loop.watch_once(fd)
                self._push(worker)

    def hand_over(self) -> ChildrenState:
        """What `take_over` needs."""
        return ChildrenState(
            zygotes=self.zygotes.hand_over(),
            workers=tuple(self.workers),
            parents=tuple((number, zygote.pid) for number, zygote in self._parents.items()),
            refill_at=tuple(self._refill_at.items()),
        )

    @property
    def is_ready(self) -> bool:
        """True while a zygote serves that has imported the application."""
        return self.zygotes.is_ready

    def reload(self, request: str, config: Config, now: float) -> None:
        """Takes the application's code anew, with these settings; until it is imported, and if it
        can't be, the old ones serve on. `request` is the id of the command that asked for it.
        """
        self._next_config = config
        self.zygotes.follow(request, now)
        self.has_news = True

    def refuse_reload(self, request: str, error: str) -> None:
        """The old code and settings serve on."""
        self.zygotes.refuse(request, error)
        self.has_news = True

    def collect(self, ready: set[int], now: float) -> list[Ended]:
        """What ended, given the descriptors that are ready."""
        ended: list[Ended] = []
        self.zygotes.hear_output(ready)
        for zygote in self.zygotes:
            if not zygote.is_dismissed and zygote.control_fd in ready:
                for event in self._reports(zygote):
                    ended += self._apply(zygote, event, now)
        ended += self._hear_children(ready, now)
        for zygote in self.zygotes:
            if zygote.pidfd in ready:
                ended += self._lose_zygote(zygote, now)
        return ended

    def assign(self, claim: Claim, now: float) -> None:
        """Gives a claimed job to its worker; it is sent when a child waits there."""
        self.workers.assign(claim)
        self._send(self.workers.by_number[claim.worker], now)

    def release_unsent(self, reason: str) -> list[Ended]:
        """Takes back the jobs that no child has got yet."""
        ended = []
        for worker in self.workers:
            run = worker.run
            if run is not None and run.sent_at is None:
                worker.run = None
                ended.append(Ended(run, Report(Released(reason))))
        return ended

    def kill(self, run: Run, verdict: Outcome, now: float) -> None:
        """Has a running job's whole group killed, for this reason."""
        worker = self.workers.by_number[run.worker]
        if run.verdict is None:
            run.verdict = verdict
        run.killed_at = now
        self._ask_to_kill(worker)

    def show_stack(self, run: Run) -> int | None:
        """Has a running job's process write where its threads stand; at which byte that begins.

        None if it would not: another program, which the job has become, would die of the signal.
        """
        child, stacks = self.workers.by_number[run.worker].child, self._stacks(run)
        if child is None or stacks is None or not catches(child.pid, STACK_SIGNAL):
            return None
        start = stacks.written_bytes
        show_stack_by_pidfd(child.pidfd)
        return start

    def stack_of(self, run: Run, start: int) -> str:
        """What it has written from this byte on."""
        stacks = self._stacks(run)
        return stacks.read(start) if stacks is not None else ""

    def forget_stack(self, run: Run) -> None:
        """What it has written was read, and is not its last word."""
        stacks = self._stacks(run)
        if stacks is not None and not run.is_stack_asked:
            stacks.forget()

    def _stacks(self, run: Run) -> StackFile | None:
        zygote = self._parents.get(run.worker)
        return zygote.stacks[run.worker] if zygote is not None else None

    def pid_of(self, run: Run) -> int:
        """The process of a running job; 0 if it is gone."""
        child = self.workers.by_number[run.worker].child
        return child.pid if child is not None else 0

    def extend(self, job_id: str, fence: int, seconds: float) -> bool:
        """More time for a running attempt; False if it does not run here, or is being killed."""
        worker = self.workers.extend(job_id, fence, seconds)
        if worker is None or worker.run is None or worker.run.killed_at is not None:
            return False
        self._push(worker)
        return True

    def answer_ask(self, run: Run, fields: Mapping[bytes, bytes]) -> None:
        """Sends a job its record, as it asked for it."""
        if worker := self.workers.answer_ask(run, fields):
            self._push(worker)

    def _push(self, worker: Worker) -> None:
        if self.workers.push(worker) and worker.child is not None:
            self._loop.watch_again(worker.child.channel.fileno(), writable=True)

    def resize(self, delta: int) -> int:
        """One worker more or fewer, at least one; returns the number from now on."""
        wanted = [worker.number for worker in self.workers if worker.wanted]
        if delta > 0:
            number = next(n for n in range(1, len(wanted) + 2) if n not in wanted)
            worker = self.workers.by_number.setdefault(number, Worker(number))
            worker.wanted = True
            self._fill(worker)
        elif delta < 0 and len(wanted) > 1:
            self._retire(self.workers.by_number[max(wanted)])
        return sum(worker.wanted for worker in self.workers)

    def resize_to(self, count: int) -> None:
        """So many workers."""
        missing = count - sum(worker.wanted for worker in self.workers)
        for _ in range(abs(missing)):
            self.resize(1 if missing > 0 else -1)

    def retire_all(self) -> None:
        """No new children; idle ones leave, busy ones once their job has ended."""
        for worker in self.workers:
            self._retire(worker)

    def note_ending(self, ended: Ended) -> None:
        """Keeps an attempt's time, and its cause as its worker's last error."""
        worker, report = self.workers.by_number[ended.run.worker], ended.report
        worker.worked_s += report.usage.wall_s or 0.0
        if not isinstance(report.outcome, _NO_ERRORS):
            worker.last_error = cause(report.outcome)

    def perform(self, now: float) -> None:
        """What is due: jobs that waited for others, hard kills, kills that went unheard, places to
        fill, a zygote to start.
        """
        for run in self.workers.runs():
            self._end_run_in_time(run, now)
        for worker in self.workers:
            self._end_overdue(worker, now)
            if worker.run is not None and worker.run.sent_at is None:
                self._send(worker, now)  # a suspect that waited for the others, or they for it
        for number in [n for n, at in self._refill_at.items() if now >= at]:
            del self._refill_at[number]
            self._fill(self.workers.by_number[number])
        if self.zygotes.is_restart_due(now):
            self._boot(now)
        self.zygotes.end_overdue(now)
        if self.zygotes.leaving:
            self.zygotes.let_go({parent.pid for parent in self._parents.values()}, now)
        self.zygotes.flush()

    def next_due(self) -> float:
        """When `perform` has something to do, at the latest."""
        due = [*self._refill_at.values()]
        children = [worker.child for worker in self.workers if worker.child is not None]
        due += [child.leave_by for child in children if child.leave_by is not None]
        for run in self.workers.runs():
            if run.killed_at is not None:
                due.append(run.killed_at + _KILL_FALLBACK_S)
            elif run.deadline is not None:
                due.append(min(run.deadline, run.stack_due))
        return min([*due, self.zygotes.next_due()])

    def parent_of(self, worker: Worker) -> int:
        """The pid of the zygote that forked this worker's child; 0 where there is none."""
        zygote = self._parents.get(worker.number)
        return zygote.pid if zygote is not None else 0

    def reap_strangers(self, but: set[int]) -> None:
        """Reaps what was given to us as subreaper, and nobody else's processes."""
        reap_strangers({*(zygote.pid for zygote in self.zygotes), *but})

    def close(self, but: set[int]) -> None:
        """Ends the zygotes with all children, and whatever else descends from this process."""
        for worker in self.workers:
            self._drop_child(worker)
        self.zygotes.close()
        kill_descendants(but)

    def _hear_children(self, ready: set[int], now: float) -> list[Ended]:
        ended: list[Ended] = []
        for fd in ready:
            if worker := self._by_channel.get(fd):
                more = self.workers.push(worker)
                heard = self.workers.hear(worker, now)
                if heard:
                    zygote = self._parents.get(worker.number)
                    ended.append(self._end(worker, zygote, *heard))
                child = worker.child
                # A child that has said its last needs no more watching: its exit is reported, and
                # the end of its channel would wake us for nothing.
                if child and not child.is_deaf and (worker.run or child.jobs_left):
                    self._loop.watch_again(fd, writable=more)
            elif (worker := self._by_output.get(fd)) is not None:
                self._read_output(worker, fd, worker.run)
        return ended

    def _end_run_in_time(self, run: Run, now: float) -> None:
        if now >= run.stack_due:
            run.is_stack_asked, run.stack_from = True, self.show_stack(run) or 0
            run.put_kill_off(now)
        if run.deadline is not None and now >= run.deadline and run.killed_at is None:
            self.kill(run, TimedOut(run.limit_s, killed=True), now)
        elif run.killed_at is not None and now - run.killed_at >= _KILL_FALLBACK_S:
            child = self.workers.by_number[run.worker].child
            if child is not None:
                kill_by_pidfd(child.pidfd)  # the zygote is stopped, or too busy to hear
            run.killed_at = now

    def _end_overdue(self, worker: Worker, now: float) -> None:
        """Has a child killed that has said its last and is still there."""
        child = worker.child
        if child is None or child.leave_by is None or now < child.leave_by:
            return
        child.leave_by = now + _KILL_FALLBACK_S
        if child.is_overdue:
            kill_by_pidfd(child.pidfd)  # as for a job: the zygote does not hear
        child.is_overdue = True
        self._ask_to_kill(worker)

    def _ask_to_kill(self, worker: Worker) -> None:
        parent = self._parents.get(worker.number)
        if worker.child is not None and parent is not None:
            parent.kill(worker.number, worker.child.pid)

    def _boot(self, now: float) -> None:
        if self.zygotes.is_reloading and self.zygotes.following is None:
            self._take_settings()  # this boot is the reload
        if self.zygotes.boot(now) is not None:
            for worker in self.workers:
                if worker.wanted and worker.child is None:
                    self._fill(worker)

    def _spawn(self) -> ZygoteProcess:
        config = self._next_config if self.zygotes.is_ready else self.config
        return ZygoteProcess(settings_of_zygote(config, self._instance), self._subtree)

    def _reports(self, zygote: ZygoteProcess) -> list[ZygoteEvent]:
        try:
            events = zygote.receive()
            strange = [e for e in events if getattr(e, "worker", 1) not in self.workers.by_number]
            if strange:
                raise FrameError(f"a report of no worker of ours: {strange[0]}")
            return events
        except FrameError as error:
            self._log.error("the zygote's reports are broken, replacing it", error=error)
            zygote.end()
            return []

    def _apply(self, zygote: ZygoteProcess, event: ZygoteEvent, now: float) -> list[Ended]:
        match event:
            case Forked():
                self._attach(zygote, event, now)
            case Exited():
                return self._bury(zygote, event, now)
            case ForkFailed(number, error) if zygote is self.zygotes.serving:
                self._log.warning("can't fork, trying again", worker=number, error=error)
                self._refill_at[number] = now + 0.5
                worker = self.workers.by_number[number]
                if worker.run is not None and worker.run.sent_at is None:
                    run, worker.run = worker.run, None
                    return [Ended(run, Report(Released(f"no process for it: {error}")))]
            case Ready():
                if self.zygotes.note_ready(zygote, event, now):
                    self._change_over()
                self.has_news = True
            case BootFailed(traceback):
                self.zygotes.note_boot_failed(zygote, traceback)
                self.has_news = True
        return []

    def _attach(self, zygote: ZygoteProcess, forked: Forked, now: float) -> None:
        if zygote is not self.zygotes.serving:
            forked.channel.close()  # it crossed with a reload: at its channel's end it leaves
            os.close(forked.pidfd)
            return
        worker = self.workers.attach(forked, zygote.generation)
        self._parents[worker.number] = zygote
        if not worker.has_lived:
            worker.has_lived = self.has_news = True
        fd = forked.channel.fileno()
        self._by_channel[fd] = worker
        self._loop.watch_once(fd)
        self.zygotes.note_forked()
        if worker.wanted or worker.run is not None:
            self._send(worker, now)
        else:
            self._drop_child(worker)  # retired while it was forked: it leaves at EOF

    def _change_over(self) -> None:
        """Another zygote serves: idle children of the old one leave, busy ones after their job."""
        self._take_settings()
        for worker in self.workers:
            for zygote in self.zygotes.leaving:
                if not zygote.is_dismissed:
                    zygote.empty(worker.number)
            if worker.run is None or worker.run.sent_at is None:
                self._drop_child(worker)
                self._refill_at.pop(worker.number, None)
                if worker.wanted:
                    self._fill(worker)
            elif worker.child is not None:
                worker.child.jobs_left = 0

    def _take_settings(self) -> None:
        """Those of the zygote that serves from now on."""
        self.config = self._next_config
        self.workers.jobs_per_child = self.config.jobs_per_child
        self.workers.limits = self.config.limits
        if self._subtree is not None:
            self._subtree.limits = _held(self.config)

    def _bury(self, zygote: ZygoteProcess, exited: Exited, now: float) -> list[Ended]:
        worker = self.workers.by_number[exited.worker]
        child, serves = worker.child, zygote is self.zygotes.serving
        if not serves and self._parents.get(worker.number) is not zygote:
            return []  # what it had to say is known, and the place is the next one's
        if child is not None and child.pid == exited.pid:
            # Closing the channel takes it out of the epoll; until then its end would wake us.
            self._by_channel.pop(child.channel.fileno(), None)
        had_job = worker.run is not None
        heard = self.workers.bury(exited, zygote.rss_bytes, now)
        if exited.status != 0 and heard is not None:
            group = zygote.groups.get(worker.number)
            heard = heard[0], explain(*heard, group, self.oom_counter, now)
        if worker.child is None:
            self._parents.pop(worker.number, None)
        if worker.wanted and not serves:
            self._fill(worker)
        elif worker.wanted and exited.status != 0:
            # The zygote refills by itself only after a good exit. A child that died at its job is
            # replaced at once; one that died idle would do so again and again.
            if had_job:
                self._fill(worker)
            else:
                number, status = worker.number, exited.status
                stack = zygote.stacks[worker.number].take()
                self._log.warning(
                    "an idle child died",
                    worker=number,
                    pid=exited.pid,
                    status=status,
                    traceback=stack,
                )
                self._refill_at[worker.number] = now + 0.5
        return [self._end(worker, zygote, *heard)] if heard else []

    def _end(self, worker: Worker, zygote: ZygoteProcess | None, run: Run, report: Report) -> Ended:
        tail, output_bytes = self._take_output(worker, run)
        stack = ""
        if zygote is not None:
            stack = zygote.stacks[worker.number].take(run.stack_from)
        is_old = self._parents.get(worker.number) in self.zygotes.leaving
        if not worker.wanted or is_old:
            self._drop_child(worker)
        if worker.wanted and is_old:
            self._fill(worker)
        report = replace(report, output_tail=tail, output_bytes=output_bytes, stack=stack)
        return Ended(run, report)

    def _send(self, worker: Worker, now: float) -> None:
        run, child = worker.run, worker.child
        if run is not None and child is not None and run.limits.cpu_s is not None:
            run.cpu_before_s = cpu_s([child.pid])
        if run is not None and run.sent_at is None and (group := self._group_of(worker)):
            self._hold(group, run)
        had_started = run is None or run.sent_at is not None
        if child is not None and not had_started:
            # What has come since the last end is of a process that is gone by now, and no job's.
            self._take_output(worker, None)
        has_more = self.workers.send(worker, now)
        if run is None or child is None:
            return
        if has_more:
            self._loop.watch_again(child.channel.fileno(), writable=True)
        if run.sent_at is not None and not had_started:
            self._log.debug("job started", **about(run.claim), worker=run.worker, pid=child.pid)

    def _group_of(self, worker: Worker) -> PlaceGroup | None:
        zygote = self._parents.get(worker.number)
        return zygote.groups.get(worker.number) if zygote is not None else None

    def _hold(self, group: PlaceGroup, run: Run) -> None:
        try:
            group.limit_memory(run.limits.memory_bytes)
        except OSError as error:
            self._log.warning(
                "a control group takes no limit", folder=str(group.folder), error=error
            )

    def _fill(self, worker: Worker) -> None:
        zygote = self.zygotes.serving
        if zygote is None or (worker.child and self._parents.get(worker.number) is not zygote):
            return  # nobody forks, or an old zygote's child is at its job: it is done at its end
        output_fd = zygote.fill(worker.number)
        if zygote.group_error:
            self._log.warning("a worker has no control group", error=zygote.group_error)
            zygote.group_error = ""
        if output_fd is not None:
            self._by_output[output_fd] = worker
            self._loop.watch(output_fd)

    def _retire(self, worker: Worker) -> None:
        worker.wanted = False
        self._refill_at.pop(worker.number, None)
        if self.zygotes.serving is not None:
            self.zygotes.serving.empty(worker.number)
        if worker.run is None:
            self._drop_child(worker)

    def _drop_child(self, worker: Worker) -> None:
        """Closes an idle child's channel: it reads the end, and leaves."""
        if worker.child is not None:
            self._by_channel.pop(worker.child.channel.fileno(), None)
            self.workers.detach(worker)
            self._parents.pop(worker.number, None)

    def _take_output(self, worker: Worker, run: Run | None) -> tuple[bytes, int]:
        """The last of the output so far, and how many bytes there were; it begins anew."""
        for fd in [fd for fd, owner in self._by_output.items() if owner is worker]:
            # Not for ever: what the job has left running may write faster than we read.
            for _ in range(_LAST_READS):
                if not self._read_output(worker, fd, run):
                    break
        tail, output_bytes, open_line = worker.tail.take()
        if open_line:
            self._log_output(open_line, worker, run)
        return tail, output_bytes

    def _read_output(self, worker: Worker, fd: int, run: Run | None) -> bool:
        """Reads a piece of it, which is this attempt's; True if there may be more."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data and (lines := worker.tail.feed(data)):
            self._log_output(lines, worker, run)
        return len(data) == _READ_BYTES

    def _log_output(self, lines: bytes, worker: Worker, run: Run | None) -> None:
        job = about(run.claim) if run is not None else {}
        self._log.output(lines, **job, worker=worker.number)

    def _lose_zygote(self, zygote: ZygoteProcess, now: float) -> list[Ended]:
        """The zygote is gone: its children are killed, what they had is put back."""
        ended: list[Ended] = []
        status = zygote.exit_status()
        if status is None:
            return ended
        for event in [] if zygote.is_dismissed else self._reports(zygote):
            ended += self._apply(zygote, event, now)
        lost = [worker for worker in self.workers if self._parents.get(worker.number) is zygote]
        ended += self._end_orphans(zygote, lost, now)
        for fd in zygote.outputs.values():
            self._loop.forget(fd)
            self._by_output.pop(fd, None)
        if zygote is self.zygotes.serving:
            self._refill_at.clear()
        self.zygotes.note_lost(zygote, status, now)
        for worker in lost:
            if worker.wanted:
                self._fill(worker)
        self.has_news = True
        return ended

    def _end_orphans(self, zygote: ZygoteProcess, workers: list[Worker], now: float) -> list[Ended]:
        ended: list[Ended] = []
        for worker in workers:
            child = worker.child
            if child is None:
                continue
            # Orphaned to us, their subreaper: nobody else can have reaped them, the pid is theirs.
            kill_orphan(child.pid, child.pidfd)  # only then is what it said complete
            heard = self.workers.hear(worker, now)
            run = worker.run
            if heard is None and run is not None and run.sent_at is not None:
                worker.run = None
                verdict = run.verdict or Lost("its zygote died")
                heard = run, Report(verdict, pid=child.pid, zygote=child.zygote)
            self._drop_child(worker)
            if heard is not None:
                ended.append(self._end(worker, zygote, *heard))
        return ended


def _held(config: Config) -> GroupLimits:
    """What the kernel is to hold."""
    return GroupLimits(config.limits.memory_bytes, config.max_pids)
