"""A master's worker in its pool, with a child that the test plays; there is no zygote."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import Any

from rqd.daemon.config import Config
from rqd.daemon.timers import OPEN, Timers
from rqd.daemon.workers import prefetch
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.mailbox import LONGEST_MESSAGE_BYTES, Mailbox
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.reader import Ended, read, read_last
from rqd.daemon.workers.slots import link_to
from rqd.daemon.workers.worker import Worker
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader, encode_frame
from rqd.daemon.zygotes.events import Exited, Forked
from rqd.model.outcome import Report
from rqd.model.records import Claim

USED = (b"1", b"1", b"1", b"0")


class Silent:
    """In place of what has no part in a test."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_named: None


def a_claim(
    payload: bytes = b"call", timeout_s: float = 60, worker: int = 1, losses: int = 0
) -> Claim:
    return Claim(
        "id", "7:n", 1, "q", worker, "f", payload, "pickle", timeout_s, 0, 0, (), losses=losses
    )


def claim_of(name: str, worker: int = 1, losses: int = 0) -> Claim:
    return replace(a_claim(), id=name, token=f"7:{name}", worker=worker, losses=losses)


class Place:
    """A pool with one worker, and the far end of its child's channel."""

    def __init__(self, jobs_per_child: int = 1) -> None:
        silent: Any = Silent()
        config = Config(url="redis://", queues=("low",), jobs_per_child=jobs_per_child)
        self.ends: list[socket.socket] = []
        self.timers = Timers()
        self.pool = Pool(config, silent, silent, self.timers, silent)
        self.pool.zygotes.is_ready = True
        self.workers = self.pool.workers
        self.worker = self.workers.add(1)
        self.zygote: Any = None  # a stand-in for the parent of the children forked from now on
        self.far = self.fork(100)

    def fork(self, pid: int, worker: int = 1) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.ends.append(far)
        self.attach(Forked(worker, pid, near, os.open("/dev/null", os.O_RDONLY)))
        return far

    def attach(self, forked: Forked) -> None:
        worker, jobs = self.workers.add(forked.worker), self.pool.config.jobs_per_child
        worker.splitter.clear()
        worker.child = link_to(forked, self.zygote, jobs, worker)
        worker.lacks_child = False

    def close(self) -> None:
        for worker in self.workers:
            worker.detach()
        for end in self.ends:
            end.close()

    def perform(self, now: float) -> list[Ended]:
        """What is due, as after anything has happened; returns the attempts that ended by it."""
        self.pool._timer.hasten(now)
        self.timers.run_due(now, OPEN)
        return self.pool.poll(set(), now)

    def start(self, now: float, worker: Worker | None = None) -> None:
        """A worker's child gets its job, if both are there; and the jobs behind it."""
        self.pool.channels.start(worker or self.worker, now)

    def give(self, claim: Claim | None = None, now: float = 0.0) -> None:
        self.workers.assign(claim or a_claim())
        self.start(now)

    def push(self) -> bool:
        assert self.worker.child is not None
        return self.worker.child.push()

    def numbers(self, now: float) -> list[int]:
        return prefetch.numbers_to_prefetch(self.workers, now)

    def read(self, now: float) -> list[tuple[Attempt, Report]]:
        return pairs(read(self.worker, now))

    def hear(self, now: float) -> tuple[Attempt, Report] | None:
        return only(self.read(now))

    def read_last(
        self, exited: Exited, baseline_bytes: int, now: float
    ) -> list[tuple[Attempt, Report]]:
        worker = self.workers.by_number[exited.worker]
        return pairs(read_last(worker, exited, baseline_bytes, now))

    def reap(self, exited: Exited, baseline: int, now: float) -> tuple[Attempt, Report] | None:
        return only(self.read_last(exited, baseline, now))

    def answer(self, kind: int, *fields: bytes) -> None:
        self.far.sendall(encode_frame(kind, b"7:n", *fields))

    def exit(self, status: int = 0, pid: int = 100, **usage: int) -> Exited:
        self.far.close()
        cpu_us, rss = usage.get("cpu_us", 0), usage.get("max_rss_bytes", 0)
        return Exited(1, pid, status, cpu_us, rss)


class Box(Place):
    """A place whose child has a mailbox; the test is the child."""

    def fork(self, pid: int, worker: int = 1) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        post, self.letters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mailbox = Mailbox(post.detach(), os.dup(self.letters.fileno()))
        self.ends += [far, self.letters]
        null = os.open(os.devnull, os.O_RDONLY)
        self.attach(Forked(worker, pid, near, null, self.mailbox))
        return far

    def begin(self, *names: str) -> None:
        """The first one is the worker's job, the others are behind it."""
        for name in names:
            self.workers.assign(claim_of(name), now=1.0)
        self.start(1.0)

    def master_does(self, step: str) -> None:
        """What else it does between two words of the child; nothing for a step of the child's."""
        if step == "recall":
            self.worker.recall()
        elif step == "post":
            self.start(2.0)

    def heard(self, at: float = 2.0) -> list[str]:
        return names(self.read(at))

    def take(self) -> str:
        """The child takes the next job; its name, empty for none."""
        try:
            message = self.letters.recv(LONGEST_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ""
        if not message:
            return ""
        ((_, fields),) = FrameReader().feed(message)
        return fields[0].decode()

    def is_told_to_leave(self) -> bool:
        try:
            return not self.letters.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    def succeed(self, name: str) -> None:
        token = b"7:%b" % name.encode()
        self.far.sendall(encode_frame(protocol.SUCCEEDED, token, b"", b"", *USED))

    @property
    def jobs_left(self) -> int:
        assert self.worker.child is not None
        return self.worker.child.jobs_left


def pairs(ended: list[Ended]) -> list[tuple[Attempt, Report]]:
    return [(one.attempt, one.report) for one in ended]


def only(ended: list[tuple[Attempt, Report]]) -> tuple[Attempt, Report] | None:
    assert len(ended) < 2
    return ended[0] if ended else None


def names(ended: list[tuple[Attempt, Report]]) -> list[str]:
    return [attempt.claim.id for attempt, _ in ended]
