"""The master's side of its processes, with zygotes and children that the test plays: from whatever
has happened to them, all jobs come to their end.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import socket
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd import __version__
from rqd.daemon.config import Config
from rqd.daemon.event_loop import Loop
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers.attempt import Attempt, AttemptState
from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES, Mailbox
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.prefetch import numbers_to_prefetch
from rqd.daemon.workers.reader import Ended
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader, encode_frame, mark_of
from rqd.daemon.zygotes.events import Exited, Forked, ForkFailed, Ready, ZygoteEvent
from rqd.model.outcome import Crashed, Released, Stopped, Succeeded
from tests.fuzzing import fuzz
from tests.place import USED, Silent, claim_of

KILLED, DIED = 9, 3 << 8


class Signalless(Loop):
    """A loop that takes no signals."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = socket.socketpair()

    def close(self) -> None:
        self._epoll.close()
        self._wake_read.close()
        self._wake_write.close()


class Process:
    """A child that does one job after the other, as the real one."""

    def __init__(
        self, pid: int, jobs: int, channel: socket.socket, letters: socket.socket | None, out: int
    ) -> None:
        self.pid, self.jobs = pid, jobs
        self.channel, self.letters = channel, letters
        self.job = b""  # its token
        self.status: int | None = None
        self.hangs = False
        self._out = out
        self._unprinted = b""
        self._reader = FrameReader()
        self._reads_channel = letters is None

    def step(self, is_last: bool = False) -> None:
        """Answers for its job, or takes the next; if all that it printed found room."""
        if self.status is not None or self.hangs or not self._can_print():
            return
        if not self.job:
            self._take()
            return
        last = encode_frame(protocol.LAST, self.job) if is_last and self.jobs else b""
        answer = encode_frame(protocol.SUCCEEDED, self.job, b"", b"", *USED)
        self.job = b""
        self.channel.sendall(last + answer)
        if last or not self.jobs:
            self.end(0)

    def prints(self, data: bytes) -> None:
        if self.job:
            self._unprinted += data

    def talks_nonsense(self) -> None:
        if self.status is None and self.job:
            self.channel.sendall(b"\xff" * 20)

    def end(self, status: int) -> None:
        if self.status is None:
            self.status = status
            self.channel.close()
            if self.letters is not None:
                self.letters.close()

    def _can_print(self) -> bool:
        try:
            while self._unprinted:
                self._unprinted = self._unprinted[os.write(self._out, self._unprinted) :]
        except BlockingIOError:
            return False
        return True

    def _take(self) -> None:
        try:
            if not self._reads_channel:
                self._take_letter()
            if self._reads_channel:
                self._take_from_channel()
        except BlockingIOError:
            return

    def _take_letter(self) -> None:
        assert self.letters is not None
        message = self.letters.recv(LONGEST_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        if not message:
            self.end(0)
            return
        ((kind, fields),) = FrameReader().feed(message)
        self._reads_channel = kind == protocol.LARGE
        if not self._reads_channel:
            self._begin(fields)
        if kind == protocol.NEXT:
            self.prints(mark_of(self.job))

    def _take_from_channel(self) -> None:
        data = self.channel.recv(2**20, socket.MSG_DONTWAIT)
        if not data:
            self.end(0)
        for kind, fields in self._reader.feed(data):
            if kind == protocol.JOB:
                self._begin(fields)

    def _begin(self, fields: list[bytes]) -> None:
        self.jobs -= 1
        self.job = fields[1]
        self._reads_channel = self.letters is None


class Zygote:
    """Both ends of one: what its master asks of it, and what it does about that in its time."""

    pids = itertools.count(2**22 + 1)  # nobody's

    def __init__(self, jobs: int, by_pidfd: dict[int, Process]) -> None:
        self.jobs = jobs
        self._by_pidfd = by_pidfd
        self.pid = next(self.pids)
        self._control, self._far = socket.socketpair()
        self._control.setblocking(False)
        self.control_fd = self._control.fileno()
        self.pidfd, self._end_fd = os.pipe()
        self.output_fd, self._said_fd = os.pipe()
        self.is_dismissed = self.is_retired = False
        self.rss_bytes = self.generation = 0
        self.group_error = ""
        self.groups: dict[int, Any] = {}
        self.stacks: dict[int, Any] = {}
        self.outputs: dict[int, int] = {}
        self._prints: dict[int, int] = {}
        self.is_booted = self.is_still = False
        self._unheard = 0
        self.status: int | None = None
        self.asked: list[tuple[int, ...]] = []
        self.unheard: list[ZygoteEvent] = []
        self.wanted: dict[int, bool] = {}
        self.processes: dict[int, Process] = {}
        self.forks = 0
        self.fork_fails = self.place_fails = self.lacks_pipes = False

    # -- the master's end

    def fill(self, worker: int) -> int | None:
        is_new = worker not in self.outputs
        if is_new and self.lacks_pipes:
            self.lacks_pipes = False
            raise OSError("too many open files")
        self.asked.append((protocol.FILL, worker, int(is_new)))
        if not is_new:
            return None
        self.stacks[worker] = SimpleNamespace(take=lambda *_: "", written_bytes=0)
        self.outputs[worker], write = os.pipe()
        os.set_blocking(self.outputs[worker], False)
        os.set_blocking(write, False)
        self._prints[worker] = write
        return self.outputs[worker]

    def forget_place(self, worker: int) -> None:
        os.close(self.outputs.pop(worker))
        os.close(self._prints.pop(worker))
        del self.stacks[worker]

    def empty(self, worker: int) -> None:
        self.asked.append((protocol.EMPTY, worker))

    def kill(self, worker: int, pid: int) -> None:
        self.asked.append((protocol.KILL, worker, pid))

    def kill_slot(self, worker: int) -> None:
        if worker in self.processes:
            self.processes[worker].end(KILLED)

    def check_alive(self) -> None:
        """The real one tells each time that it goes round."""
        self._unheard = self._unheard + 1 if self.is_still else 0

    @property
    def is_unresponsive(self) -> bool:
        return self._unheard > 6

    def receive(self) -> list[ZygoteEvent]:
        try:
            self._control.recv(2**16)
        except BlockingIOError:
            pass
        events, self.unheard = self.unheard, []
        return events

    def read_output(self) -> tuple[bytes, bool]:
        return b"", True

    def exit_status(self) -> int | None:
        return self.status

    def end(self) -> None:
        self.dies(-KILLED)

    def shut_down(self) -> None:
        self.is_dismissed = True
        self._control.close()

    def close(self, _timeout_s: float = 0.0) -> None:
        self.dies(0)
        self._control.close()
        self._far.close()
        for fd in (self.pidfd, self.output_fd, self._said_fd, *self._prints.values()):
            os.close(fd)
        for fd in self.outputs.values():
            os.close(fd)

    def flush(self) -> None:
        pass

    # -- the process

    def step(self) -> None:
        """Boots, or buries who has ended and obeys one word."""
        if self.status is not None or self.is_still:
            return
        if self.is_dismissed:
            self.dies(0)
            return
        if not self.is_booted:
            self.is_booted = True
            self._tell(Ready(self.pid, __version__, 0))
            return
        for worker, process in [*self.processes.items()]:
            if process.status is not None:
                self._bury(worker, process.status)
        if self.asked:
            self._obey(*self.asked.pop(0))

    def dies(self, status: int) -> None:
        if self.status is None:
            self.status = status
            os.close(self._end_fd)
            if status == 0:
                for process in self.processes.values():
                    process.end(KILLED)

    def _obey(self, kind: int, worker: int, about: int = 0) -> None:
        """`about`: to FILL whether the place is new; to KILL whom."""
        process = self.processes.get(worker)
        if kind == protocol.FILL:
            if about and self.place_fails:
                self.place_fails = False
                self._tell(ForkFailed(worker, "no room", has_slot=False))
                return
            if about or worker in self.wanted:
                self.wanted[worker] = True
                if process is None:
                    self._fork(worker)
        elif worker not in self.wanted:
            return
        elif kind == protocol.EMPTY:
            self.wanted[worker] = False
        elif process is not None and process.pid == about:
            process.end(KILLED)

    def _bury(self, worker: int, status: int) -> None:
        process = self.processes.pop(worker)
        self._tell(Exited(worker, process.pid, status, 0, 0))
        if self.wanted[worker] and status == 0:
            self._fork(worker)

    def _fork(self, worker: int) -> None:
        if self.fork_fails:
            self.fork_fails = False
            self._tell(ForkFailed(worker, "no memory"))
            return
        self.forks += 1
        pid, pidfd = next(self.pids), os.open(os.devnull, os.O_RDONLY)
        near, far = socket.socketpair()
        near.setblocking(False)
        mailbox = letters = None
        if self.jobs > 1:
            post, letters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            mailbox = Mailbox(post.detach(), os.dup(letters.fileno()))
        process = self.processes[worker] = Process(
            pid, self.jobs, far, letters, self._prints[worker]
        )
        self._by_pidfd[pidfd] = process
        self._tell(Forked(worker, pid, near, pidfd, mailbox))

    def _tell(self, event: ZygoteEvent) -> None:
        self.unheard.append(event)
        if not self.is_dismissed:
            self._far.send(b"x")


T = TypeVar("T")


def one_of(some: list[T], at: int) -> list[T]:
    """One of them, if there are any."""
    return [some[at % len(some)]] if some else []


def check_state(attempt: Attempt) -> None:
    """Its state agrees with what is known of it."""
    state = attempt.state
    assert (state is AttemptState.KILLED) == (attempt.killed_at is not None)
    assert (attempt.started_at is None) == (attempt.is_held or attempt.is_queued)
    if state in (AttemptState.HELD, AttemptState.RUNNING):
        assert attempt.verdict is None
        assert attempt.stop_by == math.inf


class Stage:
    """A master with its processes, and the jobs that are there for it."""

    def __init__(self, jobs_per_child: int, workers: int, jobs: int) -> None:
        self.loop = Signalless()
        self.config = Config(
            url="redis://", queues=("low",), jobs_per_child=jobs_per_child, workers=workers
        )
        anybody: Any = Silent()
        self.timers = Timers()
        self.pool = Pool(self.config, anybody, self.loop, self.timers, anybody)
        self.by_pidfd: dict[int, Process] = {}
        self.zygotes: list[Zygote] = []
        self.pool.zygotes.spawner.spawn = self._spawn  # type: ignore[method-assign, assignment]  # stand-in
        self.now = time.monotonic()
        self.is_open = True
        self.names = [f"j{number:02}" for number in range(jobs)]
        self.waiting = [*self.names]
        self.ended: list[str] = []
        self._fences = itertools.count(1)
        self.pool.start(self.now)

    def close(self) -> None:
        self.pool.zygotes.table.close()
        for worker in self.pool.workers:
            worker.detach()
        for zygote in self.zygotes:
            for forked in [one for one in zygote.unheard if isinstance(one, Forked)]:
                forked.close()
        for process in self.by_pidfd.values():
            process.end(KILLED)
        self.loop.close()

    def _spawn(self, _learnt: tuple[str, ...], *, is_next: bool) -> Zygote:
        spawner = self.pool.zygotes.spawner
        config = spawner.next_config if is_next else spawner.config
        self.zygotes.append(Zygote(config.jobs_per_child, self.by_pidfd))
        return self.zygotes[-1]

    def kill_by_pidfd(self, pidfd: int) -> None:
        self.by_pidfd[pidfd].end(KILLED)

    def kill_orphan(self, pid: int, _pidfd: int) -> None:
        for process in self.by_pidfd.values():
            if process.pid == pid:
                process.end(KILLED)

    def has_ended(self, pidfd: int) -> bool:
        return self.by_pidfd[pidfd].status is not None

    @property
    def alive(self) -> list[Zygote]:
        return [zygote for zygote in self.zygotes if zygote.status is None]

    @property
    def processes(self) -> list[Process]:
        return [one for zygote in self.zygotes for one in zygote.processes.values()]

    @property
    def _fell(self) -> set[bytes]:
        """The jobs in which a process has died by itself."""
        return {one.job for one in self.by_pidfd.values() if one.status == DIED}

    @property
    def current_attempts(self) -> list[Attempt]:
        return [
            attempt
            for attempt in self.pool.workers.current_attempts()
            if attempt.started_at is not None
        ]

    def take(self, ended: list[Ended]) -> None:
        for one in ended:
            name = one.attempt.claim.id
            if isinstance(one.report.outcome, Crashed):
                assert one.attempt.claim.token.encode() in self._fell, (
                    "charged with another's death"
                )
            assert name not in self.waiting
            assert name not in self.ended
            is_done = isinstance(one.report.outcome, Succeeded)
            (self.ended if is_done else self.waiting).append(name)

    def claim(self, count: int = 100) -> None:
        workers = self.pool.workers
        if not self.pool.is_ready or not self.is_open:
            return
        numbers = [*workers.free_numbers(self.now), *numbers_to_prefetch(workers, self.now)]
        for number in numbers[:count]:
            if self.waiting:
                self._assign(self.waiting.pop(0), number)
        self.pool.start_assigned(self.now)

    def _assign(self, name: str, worker: int) -> None:
        at = int(name[1:])
        token = f"{next(self._fences)}:{name}"
        claim = replace(claim_of(name, worker, losses=2 if at % 5 == 3 else 0), token=token)
        if at % 5 == 4:
            claim = replace(claim, payload=bytes(LONGEST_MESSAGE_BYTES))
        self.pool.assign(claim, self.now)

    def turn(self) -> bool:
        """One of its loop; False if nothing was ready."""
        ready, pool = self.loop.wait(0), self.pool
        self.take(pool.poll(ready, self.now))
        self.timers.run_due(self.now, OPEN)
        for attempt in pool.workers.held():
            check_state(attempt)
        return bool(ready)

    def do(self, step: str, at: int) -> None:
        """A step of STEPS; `at` says of whom, or how many."""
        getattr(self, f"_{step.replace(' ', '_')}")(at)

    def _claim(self, at: int) -> None:
        self.claim(at + 1)

    def _turn(self, _at: int) -> None:
        self.turn()

    def _round(self, at: int) -> None:
        """As long as nobody disturbs; jobs take a while, at times."""
        self.claim()
        self._all_step()
        self.now += 0.0002 if at else 0.01
        self.turn()

    def _later(self, at: int) -> None:
        self.now += (0.001, 0.03, 0.6, 6.0)[at % 4]

    def _zygote(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.step()

    def _lose_zygote(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.dies(-KILLED)

    def _stand_still(self, at: int) -> None:
        for zygote in one_of([one for one in self.alive if one.is_booted], at):
            zygote.is_still = True

    def _go_on(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.is_still = False

    def _fork_fails(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.fork_fails = True

    def _place_fails(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.place_fails = True

    def _lacks_pipes(self, at: int) -> None:
        for zygote in one_of(self.alive, at):
            zygote.lacks_pipes = True

    def _child(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.step()

    def _last(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.step(is_last=True)

    def _die(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.end(DIED)

    def _hang(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.hangs = True

    def _print(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.prints(bytes(150_000))

    def _nonsense(self, at: int) -> None:
        for process in one_of(self.processes, at):
            process.talks_nonsense()

    def _extend(self, at: int) -> None:
        for attempt in one_of(self.pool.workers.held(), at):
            self.pool.extend(attempt.claim.id, attempt.claim.fence, 1.0, self.now)

    def _record(self, at: int) -> None:
        for attempt in one_of(self.current_attempts, at):
            self.pool.answer_ask(attempt, {b"meta": bytes(150_000)})

    def _resize(self, at: int) -> None:
        self.pool.slots.resize_to(at % 3 + 1, self.now)

    def _reload(self, at: int) -> None:
        jobs = (1, 2, 1000)[at % 3]
        self.pool.forking.reload("", replace(self.config, jobs_per_child=jobs), self.now)

    def _pause(self, _at: int) -> None:
        self.take(self.pool.release_unsent("paused", self.now))

    def _drain(self, at: int) -> None:
        """Or resumes."""
        self.is_open = bool(at % 2)
        if not self.is_open:
            self._pause(at)

    def _lose(self, at: int) -> None:
        """Leases: they are another master's by now, or soon."""
        lost = [
            attempt for attempt in self.pool.workers.held() if (at + len(attempt.claim.token)) % 2
        ]
        lost = [*one_of(self.pool.workers.held(), at), *lost]
        self.pool.lose({attempt.claim.token for attempt in lost}, self.now)
        held = self.pool.workers.held()
        self.waiting += {attempt.claim.id for attempt in lost if attempt not in held}

    def _recall(self, _at: int) -> None:
        for worker in self.pool.workers:
            worker.recall()

    def _kill(self, at: int) -> None:
        for attempt in one_of(self.current_attempts, at):
            self.pool.kill(attempt, Released("killed"), self.now)

    def _stop(self, at: int) -> None:
        for attempt in one_of(self.current_attempts, at):
            if self.pool.stop_prefetch(attempt, self.now) and attempt.started_at is not None:
                worker = self.pool.workers.by_number[attempt.worker]
                worker.stop(Stopped("ops"), self.now + 5, self.now)

    def _make_last(self, at: int) -> None:
        for attempt in one_of(self.current_attempts, at):
            self.pool.workers.by_number[attempt.worker].retire_after_current(self.now)

    def stop(self) -> None:
        """Until none runs any more: each has ended, or waits again."""
        self.is_open = False
        for zygote in self.zygotes:
            zygote.is_still = False
        self.pool.slots.retire_all(self.now)
        self._pause(0)
        kill_at, give_up_at = self.now + 3, self.now + 30
        while self.pool.workers.current_attempts() or self.pool.ended_meanwhile:
            assert self.now < give_up_at, self._told()
            if self.now >= kill_at:
                kill_at = give_up_at
                self._pause(0)
                for attempt in self.pool.workers.current_attempts():
                    self.pool.kill(attempt, Released("stopped"), self.now)
            if not (self._all_step() | self.turn()):
                self.now = max(self.now, min(self.timers.next_at(OPEN), self.now + 1.0)) + 1e-6
        assert sorted(self.ended + self.waiting) == self.names

    def go_on(self) -> None:
        """Until all jobs have ended, as those do whom nobody disturbs."""
        self.is_open = True
        give_up_at, rounds = self.now + 400, 0
        while sorted(self.ended) != self.names:
            assert self.now < give_up_at, self._told()
            self.claim()
            before = len(self.ended), len(self.waiting)
            is_moving = self._all_step()
            is_moving = self.turn() or is_moving or before != (len(self.ended), len(self.waiting))
            rounds += 1
            assert rounds < 3000, f"busy with nothing: {self._told()}"
            if not is_moving:
                self.now = max(self.now, min(self.timers.next_at(OPEN), self.now + 1.0)) + 1e-6

    def rests(self) -> None:
        """With nothing to do, its processes wait: nothing is forked, nobody wakes up."""
        for _ in range(50):
            self._all_step()
            self.turn()
        for _ in range(20):  # what was to leave has left, what was lost is there again
            self.now += 5
            for _ in range(10):
                self._all_step()
                self.turn()
        forks = sum(zygote.forks for zygote in self.zygotes)
        for _ in range(20):
            self._all_step()
            assert not self.turn()
        assert sum(zygote.forks for zygote in self.zygotes) == forks
        assert self.timers.next_at(OPEN) > self.now, self._told()
        for worker in self.pool.workers:
            assert (worker.child is not None) == worker.wanted

    def _all_step(self) -> bool:
        def seen() -> list[Any]:
            return [
                (z.is_booted, z.status, len(z.asked), z.forks, len(z.processes))
                for z in self.zygotes
            ] + [(p.job, p.status) for p in self.by_pidfd.values()]

        before = seen()
        for zygote in self.zygotes:
            zygote.step()
        for process in self.processes:
            process.step()
        return seen() != before

    def _told(self) -> str:
        held = [
            (
                worker.number,
                worker.wanted,
                worker.child and (worker.child.pid, worker.child.jobs_left, worker.child.leave_by),
                [(r.claim.token, r.started_at, r.state, r.deadline) for r in worker.held()],
            )
            for worker in self.pool.workers
        ]
        return f"waiting {self.waiting}, held {held}, due {self.timers.next_at(OPEN) - self.now}"


STEPS = [
    *(
        "round",
        "round",
        "round",
        "round",
        "claim",
        "turn",
        "turn",
        "zygote",
        "zygote",
        "child",
        "child",
        "last",
        "die",
    ),
    *("resize", "reload", "pause", "recall", "kill", "stop", "make last", "later"),
    *("drain", "drain", "lose"),
    *("fork fails", "lose zygote", "stand still", "go on", "hang", "print", "print"),
    *("place fails", "nonsense", "extend", "record"),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rqd.daemon.workers.pool.become_subreaper", lambda: None)


def play(
    jobs_per_child: int, workers: int, steps: list[tuple[str, int]], *, is_stopped: bool = False
) -> None:
    """These steps; then it is stopped, or nobody disturbs any more."""
    stage = Stage(jobs_per_child, workers, jobs=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rqd.daemon.workers.deadlines.kill_by_pidfd", stage.kill_by_pidfd)
        patch.setattr("rqd.daemon.workers.forking.kill_orphan", stage.kill_orphan)
        patch.setattr("rqd.daemon.workers.forking.has_ended", stage.has_ended)
        try:
            for step, at in steps:
                stage.do(step, at)
            if is_stopped:
                stage.stop()
                return
            stage.go_on()
            stage.rests()
        finally:
            stage.close()


@pytest.mark.parametrize("jobs_per_child", [1, 1000])
def test_where_processes_die_before_they_take_their_job_they_are_not_forked_without_a_pause(
    jobs_per_child: int,
) -> None:
    stage = Stage(jobs_per_child, 1, jobs=10)
    try:
        for _ in range(50):
            stage.claim()
            stage.do("zygote", 0)
            stage.do("die", 0)
            stage.turn()
        assert stage.zygotes[0].forks == 1
        stage.now += 0.5
        for step in ("turn", "zygote", "turn", "child"):
            stage.do(step, 0)
        stage.go_on()
    finally:
        stage.close()


@fuzz(150)
@given(
    jobs_per_child=st.sampled_from([1, 2, 1000]),
    workers=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=100),
    is_stopped=st.booleans(),
)
def test_from_whatever_has_happened_to_processes_all_jobs_come_to_their_end(
    jobs_per_child: int, workers: int, steps: list[tuple[str, int]], is_stopped: bool
) -> None:
    """Or go back, if it is stopped then."""
    play(jobs_per_child, workers, steps, is_stopped=is_stopped)


def test_a_death_before_the_job_was_read_is_not_its_own_though_it_was_given_more_time() -> None:
    at_work = [*[("zygote", 0)] * 2, ("turn", 0), ("claim", 0)]
    play(1, 1, [*at_work, ("die", 0), ("extend", 0)])


def test_a_worker_that_is_taken_away_as_its_fork_fails_gets_no_process() -> None:
    """It would leave, and the next one be forked, for ever."""
    play(1, 2, [("zygote", 0), ("zygote", 0), ("fork fails", 0), ("resize", 0)])


@pytest.mark.parametrize("jobs_per_child", [1, 1000])
def test_a_worker_that_is_taken_away_and_given_back_gets_rid_of_a_process_that_hangs(
    jobs_per_child: int,
) -> None:
    booted = [*[("zygote", 0)] * 3, ("turn", 0)]
    play(jobs_per_child, 2, [*booted, ("hang", 1), ("resize", 0), ("resize", 1)])


@pytest.mark.parametrize("jobs_per_child", [1, 1000])
def test_no_job_waits_for_a_zygote_that_stands_still_nor_one_whose_process_dies_then(
    jobs_per_child: int,
) -> None:
    at_work = [*[("zygote", 0)] * 3, ("turn", 0), ("claim", 5), ("child", 0), ("child", 1)]
    play(jobs_per_child, 2, [*at_work, ("stand still", 0), ("die", 0)])


@pytest.mark.parametrize("resized_before_it_is_heard", [True, False])
def test_a_worker_whose_place_did_not_come_to_its_zygote_is_given_another(
    resized_before_it_is_heard: bool,
) -> None:
    heard = [] if resized_before_it_is_heard else [("turn", 0)]
    resized = [("resize", 0), ("resize", 1)]
    play(1, 2, [("zygote", 0), ("zygote", 0), ("place fails", 0), ("zygote", 0), *heard, *resized])


@pytest.mark.parametrize("jobs_per_child", [1, 1000])
@pytest.mark.parametrize(
    "failing",
    [
        [("fork fails", 0), ("zygote", 0)],
        [("place fails", 0), ("zygote", 0)],
        [("zygote", 0), ("turn", 0), ("die", 0), ("zygote", 0)],
        [("reload", 0), ("lacks pipes", 1), ("zygote", 1)],
    ],
    ids=lambda steps: steps[-2][0],
)
def test_no_job_is_claimed_for_a_worker_whose_process_could_not_be_had_before_there_is_one(
    jobs_per_child: int, failing: list[tuple[str, int]]
) -> None:
    stage = Stage(jobs_per_child, workers=1, jobs=1)
    workers = stage.pool.workers
    try:
        stage.do("zygote", 0)
        stage.do("turn", 0)
        assert workers.free_numbers(stage.now) == [1]  # its process is on its way
        workers.by_number[1].pace_s = 0.001
        workers.by_number[1].ended_at = stage.now
        for step, at in [*failing, ("turn", 0)]:
            stage.do(step, at)
        for wait_s in (0, 0.5):  # when it is asked for anew
            assert [
                *workers.free_numbers(stage.now),
                *numbers_to_prefetch(workers, stage.now),
            ] == []
            stage.now += wait_s
            stage.do("turn", 0)
        stage.pool.forking.has_news = False
        stage.do("zygote", len(stage.alive) - 1)
        stage.do("turn", 0)
        assert workers.free_numbers(stage.now) == [1]
        assert stage.pool.forking.has_news  # at which a job is looked for
        stage.go_on()
    finally:
        stage.close()


def test_a_job_goes_back_where_its_worker_has_no_place_for_a_process() -> None:
    stage = Stage(jobs_per_child=1, workers=1, jobs=1)
    try:
        stage.do("zygote", 0)
        stage.do("turn", 0)
        stage.claim()
        stage.do("reload", 0)
        stage.zygotes[1].lacks_pipes = True
        stage.do("zygote", 1)
        for _ in range(2):  # found in the first, handed over in the next
            stage.do("turn", 0)
        assert stage.waiting == ["j00"]
        stage.go_on()
    finally:
        stage.close()


def test_a_process_that_a_zygote_forked_before_it_heard_that_another_serves_gets_no_job() -> None:
    stage = Stage(jobs_per_child=1, workers=2, jobs=3)
    try:
        for step, at in (("zygote", 0), ("turn", 0), ("zygote", 0), ("turn", 0), ("claim", 0)):
            stage.do(step, at)
        for step, at in (("reload", 0), ("zygote", 1), ("turn", 0), ("zygote", 0)):
            stage.do(step, at)
        old: Any = stage.zygotes[0]
        assert old.forks == 2  # the second place's
        stage.do("turn", 0)
        stage.claim()
        assert [worker.number for worker in stage.pool.slots.of(old)] == [1]
        stage.go_on()
    finally:
        stage.close()


@pytest.mark.parametrize("heard", ["one by one", "together"])
def test_the_stacks_of_a_job_that_crashed_are_not_the_job_befores(heard: str) -> None:
    stage = Stage(jobs_per_child=1000, workers=1, jobs=2)
    try:
        for step in ("zygote", "turn", "zygote", "turn"):
            stage.do(step, 0)
        worker = stage.pool.workers.by_number[1]
        worker.pace_s = 0.001
        worker.ended_at = stage.now
        stage.claim()
        (zygote,), (process,) = stage.zygotes, stage.processes
        for _ in range(3):
            process.step()  # takes the first, answers, takes the second
        process.end(DIED)
        zygote.stacks[1] = SimpleNamespace(take=lambda *_: "where the second stood")
        ended = []
        if heard == "one by one":
            ended += stage.pool.poll(stage.loop.wait(0), stage.now)
            assert len(ended) == 1
        zygote.step()
        ended += stage.pool.poll(stage.loop.wait(0), stage.now)
        assert [one.report.stack for one in ended] == ["", "where the second stood"]
    finally:
        stage.close()


def test_a_master_that_was_late_to_ask_for_a_jobs_stacks_leaves_it_the_time_to_write_them() -> None:
    stage = Stage(jobs_per_child=1, workers=1, jobs=1)
    try:
        for step in ("zygote", "turn", "zygote", "turn", "claim", "child"):
            stage.do(step, 0)
        (attempt,) = stage.current_attempts
        stage.now += 1000.0  # its own time, too
        stage.do("turn", 0)
        assert (attempt.is_stack_asked, attempt.killed_at) == (True, None)
        stage.now = stage.timers.next_at(OPEN)
        stage.do("turn", 0)
        assert attempt.killed_at == stage.now
        stage.go_on()
    finally:
        stage.close()
