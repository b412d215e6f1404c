"""Events of a zygote: ready, forked, exited; read from its socket with descriptors."""

from __future__ import annotations

import array
import os
import socket
from dataclasses import dataclass

from rqd.daemon.workers.mailbox import Mailbox
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FORMAT, FrameError, FrameReader


@dataclass(frozen=True, slots=True)
class Unforkable:
    """What a module has left that its forks have not, or share: names of threads, and addresses to
    which it is connected; or why it could not be imported. Each is one text, empty for none.
    """

    module: str
    threads: str
    connections: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The zygote has imported the application; its size at that moment."""

    pid: int
    version: str
    rss_bytes: int
    format: int = FORMAT
    unforkable: tuple[Unforkable, ...] = ()


@dataclass(frozen=True, slots=True)
class BootFailed:
    """The application could not be imported."""

    traceback: str


@dataclass(frozen=True, slots=True)
class Forked:
    """A child waits in this worker's place."""

    worker: int
    pid: int
    channel: socket.socket
    pidfd: int
    mailbox: Mailbox | None = None

    def close(self) -> None:
        """Lets go of the child: it leaves."""
        # A child that was forked before these ends had reached us has copies of them.
        self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        os.close(self.pidfd)
        if self.mailbox is not None:
            self.mailbox.close()


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The system would not fork, or had no descriptors; `has_place` is False if the zygote lacks
    those that all children in this place share, `useless_pid` a child that can't be given a job, as
    its own did not arrive.
    """

    worker: int
    error: str
    has_place: bool = True
    useless_pid: int = 0


@dataclass(frozen=True, slots=True)
class Exited:
    """A child is gone and its group with it. What it used isn't known if its status is 0."""

    worker: int
    pid: int
    status: int
    cpu_us: int
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Here:
    """The zygote goes round."""


ZygoteEvent = Ready | BootFailed | Forked | ForkFailed | Exited | Here


MAX_FDS = 253  # the kernel's limit for one message
_READ_BYTES = 65536


class Reports:
    """The stream of them, as far as it was read."""

    def __init__(self, control: socket.socket, *, has_mailboxes: bool) -> None:
        self._control = control
        self._has_mailboxes = has_mailboxes  # each child
        self._said = FrameReader()
        self._received_fds: list[int] = []  # of reports that are not whole yet
        self._are_fds_cut = False  # of the latest message that had some

    def receive(self) -> list[ZygoteEvent]:
        """What has been reported since the last call. Raises FrameError on nonsense."""
        events: list[ZygoteEvent] = []
        try:
            while self._receive(events):
                pass
        except FrameError:
            close_forked(events)
            raise
        return events

    def close(self) -> None:
        """Closes what came for reports that have no end."""
        while self._received_fds:
            os.close(self._received_fds.pop())

    def _receive(self, events: list[ZygoteEvent]) -> bool:
        """Takes what one read brings; False if there is no more."""
        # The rest of a message whose descriptors were cut is read frame by frame: not together with
        # a next one, whose descriptors it would take.
        most = _missing_bytes(self._said.rest) if self._are_fds_cut else _READ_BYTES
        try:
            data, ancillary, flags, _ = self._control.recvmsg(
                most, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            return False  # its pidfd tells that it is gone
        for _, _, packed in ancillary:
            fds = array.array("i")
            fds.frombytes(packed[: len(packed) // fds.itemsize * fds.itemsize])
            self._received_fds += fds
        is_cut = bool(flags & socket.MSG_CTRUNC)
        if ancillary or is_cut:  # else it goes on with the message before
            self._are_fds_cut = is_cut
        for kind, fields in self._said.feed(data):
            try:
                events.append(self._event(kind, fields))
            except (ValueError, IndexError) as error:
                raise FrameError(f"a report of kind {kind} that is none") from error
        if self._are_fds_cut:
            self.close()  # half of a pair
        return self._are_fds_cut or bool(ancillary) or len(data) == _READ_BYTES

    def _event(self, kind: int, fields: list[bytes]) -> ZygoteEvent:
        if kind == protocol.FORKED:
            return self._forked(int(fields[0]), int(fields[1]))
        if kind == protocol.EXITED:
            worker, pid, status, cpu_us, rss_kib = map(int, fields)
            return Exited(worker, pid, status, cpu_us, rss_kib * 1024)
        if kind == protocol.READY:
            version, *texts = (field.decode(errors="replace") for field in (fields[1], *fields[4:]))
            unforkable = tuple(map(Unforkable, *(texts[at::4] for at in range(4))))
            spoken = int(fields[3]) if len(fields) > 3 else protocol.FORMAT
            return Ready(int(fields[0]), version, int(fields[2]), spoken, unforkable)
        if kind == protocol.BOOT_FAILED:
            return BootFailed(fields[0].decode(errors="replace"))
        if kind == protocol.FORK_FAILED:
            has_place = len(fields) == 2
            return ForkFailed(int(fields[0]), fields[1].decode(errors="replace"), has_place)
        if kind == protocol.HERE:
            return Here()
        raise FrameError(f"a report of kind {kind}")

    def _forked(self, worker: int, pid: int) -> Forked | ForkFailed:
        count = 4 if self._has_mailboxes else 2
        if len(self._received_fds) < count:
            # The kernel keeps the first of a message's descriptors where not all fit.
            if not self._are_fds_cut:
                raise FrameError("a child came without its descriptors")
            return ForkFailed(worker, "this master has too many open files", useless_pid=pid)
        channel_fd, pidfd, *mailbox_fds = self._received_fds[:count]
        del self._received_fds[:count]
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, channel_fd)
        channel.setblocking(False)
        return Forked(worker, pid, channel, pidfd, Mailbox(*mailbox_fds) if mailbox_fds else None)


def close_forked(events: list[ZygoteEvent]) -> None:
    """Lets go of the children among what was reported: nobody takes them."""
    for event in events:
        if isinstance(event, Forked):
            event.close()


def _missing_bytes(begun: bytes) -> int:
    """How many end a frame that has begun, or its length; no more than one reads."""
    if len(begun) < 4:
        return 4 - len(begun)
    return min(4 + int.from_bytes(begun[:4], "big") - len(begun), _READ_BYTES)
