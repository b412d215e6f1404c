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
    """The threads and connections that the import of a module has left, or the import's error.

    Forks lack the threads, and share the connections. Each is a text, empty for none: names of
    threads, addresses of peers, the error.
    """

    module: str
    threads: str
    connections: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The zygote has imported the application. `rss_bytes` is its size at that moment."""

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
    """A new child waits in this worker's slot. Its descriptors belong to the receiver."""

    worker: int
    pid: int
    channel: socket.socket
    pidfd: int
    mailbox: Mailbox | None = None

    def close(self) -> None:
        """Closes the child's descriptors. The child leaves."""
        # Shut down first: a child that was forked before these ends reached us has copies of them.
        self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        os.close(self.pidfd)
        if self.mailbox is not None:
            self.mailbox.close()


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The system refused a fork, or was short of descriptors.

    `has_slot` is False if the zygote lacks the descriptors that all children in this slot share.
    `useless_pid` is a child whose own descriptors did not arrive, so that it can't get a job; or 0.
    """

    worker: int
    error: str
    has_slot: bool = True
    useless_pid: int = 0


@dataclass(frozen=True, slots=True)
class Exited:
    """A child and its process group are gone. `cpu_us` and `max_rss_bytes` are 0 for status 0."""

    worker: int
    pid: int
    status: int
    cpu_us: int
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Here:
    """The zygote is responsive: it reports this every `protocol.HERE_S` seconds."""


ZygoteEvent = Ready | BootFailed | Forked | ForkFailed | Exited | Here


MAX_FDS = 253  # the kernel's limit for one message
_READ_BYTES = 65536


class Reports:
    """Reads the events of a zygote from its control socket."""

    def __init__(self, control: socket.socket, *, has_mailboxes: bool) -> None:
        self._control = control
        self._has_mailboxes = has_mailboxes  # each child has a mailbox
        self._said = FrameReader()
        self._received_fds: list[int] = []  # of reports that are not whole yet
        self._are_fds_cut = False  # in the latest message that had descriptors

    def receive(self) -> list[ZygoteEvent]:
        """Returns the events since the last call. Raises FrameError for bytes that are no events,
        and closes the new children's descriptors then.
        """
        events: list[ZygoteEvent] = []
        try:
            while self._receive(events):
                pass
        except FrameError:
            close_forked(events)
            raise
        return events

    def close(self) -> None:
        """Closes the descriptors that came for incomplete reports."""
        while self._received_fds:
            os.close(self._received_fds.pop())

    def _receive(self, events: list[ZygoteEvent]) -> bool:
        """Adds the events of a single read; False if there is no more to read."""
        # The rest of a message whose descriptors were cut is read frame by frame. If it was read
        # together with the next message, it would take the descriptors of that.
        most = _missing_bytes(self._said.rest) if self._are_fds_cut else _READ_BYTES
        try:
            data, ancillary, flags, _ = self._control.recvmsg(
                most, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            return False  # it is gone, which its pidfd reports
        for _, _, packed in ancillary:
            fds = array.array("i")
            fds.frombytes(packed[: len(packed) // fds.itemsize * fds.itemsize])
            self._received_fds += fds
        is_cut = bool(flags & socket.MSG_CTRUNC)
        if ancillary or is_cut:  # else the data continue the message before
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
            has_slot = len(fields) == 2
            return ForkFailed(int(fields[0]), fields[1].decode(errors="replace"), has_slot)
        if kind == protocol.HERE:
            return Here()
        raise FrameError(f"a report of kind {kind}")

    def _forked(self, worker: int, pid: int) -> Forked | ForkFailed:
        count = 4 if self._has_mailboxes else 2
        if len(self._received_fds) < count:
            # Where not all descriptors of a message fit, the kernel passes the first ones.
            if not self._are_fds_cut:
                raise FrameError("a child came without its descriptors")
            return ForkFailed(worker, "this master has too many open files", useless_pid=pid)
        channel_fd, pidfd, *mailbox_fds = self._received_fds[:count]
        del self._received_fds[:count]
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, channel_fd)
        channel.setblocking(False)
        return Forked(worker, pid, channel, pidfd, Mailbox(*mailbox_fds) if mailbox_fds else None)


def close_forked(events: list[ZygoteEvent]) -> None:
    """Closes the descriptors of the new children among these events, so that they leave."""
    for event in events:
        if isinstance(event, Forked):
            event.close()


def _missing_bytes(begun: bytes) -> int:
    """How many bytes complete a begun frame, or its length field; limited to a single read."""
    if len(begun) < 4:
        return 4 - len(begun)
    return min(4 + int.from_bytes(begun[:4], "big") - len(begun), _READ_BYTES)
