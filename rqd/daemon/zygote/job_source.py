"""Receives the master's messages in the child: jobs, more time for the running job, its record.

A child of many jobs gets them by a mailbox, out of which the master can take back unread jobs (see
workers/mailbox.py). A child of a single job gets it by its channel. All else comes by the channel.
"""

from __future__ import annotations

import _socket
from os import sched_yield
from select import POLLIN, poll
from time import monotonic

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import JOB, FrameReader
from rqd.daemon.zygote.timer import timer

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Callable

# Most jobs fit into the first size. It is small enough for the interpreter's own pools; malloc's
# free pieces lie in many pages.
_FEW_BYTES, _MUCH_BYTES = 448, 65536
# The pause before a child warms up; in a backlog its first job comes sooner.
_SOON_S = 0.005


class JobSource:
    """Reads messages, in the child's main thread.

    `token` is the latest job's. `start_by` is when that job must have begun (monotonic seconds); 0
    if it waited behind no other. While `warm_up_pending`, `when_idle` is called once if no job
    comes for a while.
    """

    __slots__ = (
        "_messages",
        "_reader",
        "_taken",
        "ask_more",
        "channel",
        "mailbox",
        "start_by",
        "token",
        "warm_up_pending",
        "when_idle",
    )

    def __init__(self, channel: _socket.socket, when_idle: Callable[[], None]) -> None:
        self.channel = channel
        self.mailbox: _socket.socket | None = None
        self.when_idle = when_idle
        self.ask_more = self.granted_s  # bound once
        self._reader = FrameReader()
        self._messages = FrameReader()  # of the mailbox, whose messages are whole frames
        self._taken: list[protocol.Frame] = []
        self.token = b""
        self.start_by = 0.0
        self.warm_up_pending = False

    def next_job(self) -> list[bytes] | None:
        """Waits for a job and returns its fields; None if no more will come."""
        return self._next_in_channel() if self.mailbox is None else self._next_in(self.mailbox)

    def _next_in(self, mailbox: _socket.socket) -> list[bytes] | None:
        message = None if self.warm_up_pending else _take_soon(mailbox)
        if message is None:
            message = self._wait(mailbox, _MUCH_BYTES)
        if not message:
            return None
        ((kind, fields),) = self._messages.feed(message)
        self.start_by = float(fields.pop(2)) if kind == protocol.NEXT else 0.0
        if kind == protocol.LARGE:
            return self._next_in_channel()
        self.token = fields[1]
        return fields

    def _next_in_channel(self) -> list[bytes] | None:
        size = _FEW_BYTES
        while True:
            while self._taken:
                kind, fields = self._taken.pop(0)
                if kind == JOB:
                    self.token = fields[1]
                    return fields
            data = self._wait(self.channel, size)
            if not data:
                return None
            self._taken = self._reader.feed(data)
            size = _MUCH_BYTES

    def _wait(self, source: _socket.socket, size: int) -> bytes:
        if not self.warm_up_pending:
            return source.recv(size)
        self.warm_up_pending = False
        # Not by SO_RCVTIMEO: `setsockopt` raises and catches two TypeErrors if it is passed a
        # timeval, 20 us a fork.
        source.settimeout(_SOON_S)
        try:
            return source.recv(size)
        except TimeoutError:
            pass
        finally:
            source.settimeout(None)
        self.when_idle()
        return source.recv(size)

    def granted_s(self) -> float:
        """Returns the seconds newly granted to the running job.

        Its alarm calls this, so it never waits.
        """
        self._take_what_came()
        granted = [frame for frame in self._taken if frame[0] == protocol.EXTEND]
        self._taken = [frame for frame in self._taken if frame[0] != protocol.EXTEND]
        return sum(float(fields[1]) for _, fields in granted if fields[0] == self.token)

    def record(self, patience_s: float) -> dict[bytes, bytes] | None:
        """Waits for the running job's hash from the master; None if it does not come in time."""
        give_up_at = monotonic() + patience_s
        watch = poll()
        watch.register(self.channel, POLLIN)
        while True:
            for frame in self._taken:
                if frame[0] == protocol.RECORD and frame[1][0] == self.token:
                    self._taken.remove(frame)
                    return dict(zip(frame[1][1::2], frame[1][2::2], strict=True))
            left_s = give_up_at - monotonic()
            if left_s <= 0 or not watch.poll(left_s * 1000):
                return None
            timer.is_held = True  # the job's alarm reads here, too
            try:
                if not self._take_what_came():
                    return None
            finally:
                timer.let_go()

    def _take_what_came(self) -> bool:
        """Reads the frames that have come, without waiting; False if the master is gone."""
        try:
            data = self.channel.recv(_MUCH_BYTES, _socket.MSG_DONTWAIT)
        except OSError:
            return True  # nothing came
        self._taken += self._reader.feed(data)
        return bool(data)


def _take_soon(mailbox: _socket.socket) -> bytes | None:
    """Returns a message that is there, or comes while others have this processor; else None.

    A sleeping child is woken by the next message at once, on its master's processor. There the two
    would then take turns, with a switch a job, for all jobs that the master has to give.
    """
    try:
        return mailbox.recv(_MUCH_BYTES, _socket.MSG_DONTWAIT)
    except BlockingIOError:
        sched_yield()
    try:
        return mailbox.recv(_MUCH_BYTES, _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
