"""The master's end of the zygote: starts it, tells it what to do, hears what happened."""

from __future__ import annotations

import array
import errno
import os
import socket
import subprocess
from dataclasses import dataclass
from typing import Any

from rqd.daemon.host.adopted import AdoptedProcess
from rqd.daemon.host.cgroups import PlaceGroup, Subtree
from rqd.daemon.processes.forensics import Tail
from rqd.daemon.processes.mailbox import Mailbox
from rqd.daemon.processes.stacks import StackFile
from rqd.daemon.processes.zygote_events import (
    BootFailed,
    Exited,
    Forked,
    ForkFailed,
    Here,
    Ready,
    Unforkable,
    ZygoteEvent,
)
from rqd.daemon.processes.zygote_spawn import ZygoteSettings, spawn
from rqd.daemon.zygote import frames
from rqd.daemon.zygote.frames import FrameError, FrameReader, encode_frame

_MOST_READS, _READ_BYTES = 16, 65536
# Looks in a row that find no word of a zygote, which speaks once between two: half a minute.
_MOST_UNHEARD = 6
_MAX_FDS = 253  # the kernel's limit for one message
_LACKS_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class ZygoteState:
    """A zygote as its master knows it; of descriptors their numbers."""

    pid: int
    control_fd: int
    pidfd: int
    rss_bytes: int
    said: FrameReader
    received_fds: tuple[int, ...]
    outputs: tuple[tuple[int, int], ...]  # worker, where its output is read
    lives: tuple[tuple[int, int], ...]  # worker, the end whose closing kills what is in its place
    groups: tuple[tuple[int, dict[str, Any]], ...]  # by worker
    generation: int
    stacks: tuple[tuple[int, int], ...]  # worker, the file
    output_fd: int
    printed: Tail
    has_mailboxes: bool
    are_fds_cut: bool = False

    @property
    def fds(self) -> tuple[int, ...]:
        """All of them."""
        ours = (fd for _, fd in (*self.stacks, *self.outputs, *self.lives))
        return (*ours, self.control_fd, self.pidfd, self.output_fd, *self.received_fds)


class ZygoteProcess:
    """A running zygote, and the pipes of each worker's place in it."""

    def __init__(self, settings: ZygoteSettings, subtree: Subtree | None = None) -> None:
        """`subtree`: where each worker has a control group, None for nowhere."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.setblocking(False)
        self._reader = FrameReader()
        self._fds: list[int] = []
        self._are_fds_cut = False  # of the latest message that had some
        self._outbox: list[tuple[bytes, list[int]]] = []
        self.outputs: dict[int, int] = {}  # where what a worker's children print is read
        self._subtree = subtree
        self.groups: dict[int, PlaceGroup] = {}  # by worker
        self.stacks: dict[int, StackFile] = {}  # of the children in each worker's place
        self._lives: dict[int, int] = {}
        self._unheard = 0
        self.rss_bytes = 0
        self.generation = 0  # which one of its master's it is, from 1
        self._has_mailboxes = settings.jobs_per_child > 1  # its children
        self.group_error = ""  # why a worker has no control group, though it should
        self.is_dismissed = False
        # Not ours: a reader that hangs would hold up what prints there.
        self.output_fd, output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output_fd, False)
        self._printed = Tail()
        self._process: subprocess.Popen[bytes] | AdoptedProcess
        try:
            self._process = spawn(settings, theirs.fileno(), output_write)
        except OSError:
            os.close(self.output_fd)
            raise
        finally:
            theirs.close()
            os.close(output_write)
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)

    @classmethod
    def take_over(cls, told: ZygoteState, subtree: Subtree | None) -> ZygoteProcess:
        """The zygote of the master that was executed before in this process."""
        zygote = cls.__new__(cls)
        control_fd = told.control_fd
        zygote._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=control_fd)
        zygote._control.setblocking(False)
        zygote._reader, zygote._fds = told.said, [*told.received_fds]
        zygote._are_fds_cut = told.are_fds_cut
        zygote._outbox, zygote.outputs = [], dict(told.outputs)
        zygote._lives, zygote._unheard = dict(told.lives), 0
        zygote.rss_bytes, zygote.is_dismissed = told.rss_bytes, False
        zygote.generation = told.generation
        zygote.stacks = {number: StackFile.take_over(fd) for number, fd in told.stacks}
        zygote._subtree, zygote.group_error = subtree, ""
        zygote.groups = {number: PlaceGroup.take_over(group) for number, group in told.groups}
        zygote._process = AdoptedProcess(told.pid)
        zygote.pid, zygote.pidfd = told.pid, told.pidfd
        zygote.output_fd, zygote._printed = told.output_fd, told.printed
        zygote._has_mailboxes = told.has_mailboxes
        return zygote

    def hand_over(self) -> ZygoteState:
        """What `take_over` needs."""
        return ZygoteState(
            pid=self.pid,
            control_fd=self.control_fd,
            pidfd=self.pidfd,
            rss_bytes=self.rss_bytes,
            said=self._reader,
            received_fds=tuple(self._fds),
            outputs=tuple(self.outputs.items()),
            lives=tuple(self._lives.items()),
            groups=tuple((number, group.hand_over()) for number, group in self.groups.items()),
            generation=self.generation,
            stacks=tuple((number, stacks.fd) for number, stacks in self.stacks.items()),
            output_fd=self.output_fd,
            printed=self._printed,
            has_mailboxes=self._has_mailboxes,
            are_fds_cut=self._are_fds_cut,
        )

    @property
    def is_at_rest(self) -> bool:
        """True where nothing waits to be sent."""
        return not self._outbox

    @property
    def control_fd(self) -> int:
        """Readable when the zygote has something to tell."""
        return self._control.fileno()

    def read_output(self) -> tuple[bytes, bool]:
        """The whole lines that it has printed itself; and False at the end of it."""
        lines = b""
        for _ in range(_MOST_READS):
            try:
                data = os.read(self.output_fd, _READ_BYTES)
            except BlockingIOError:
                return lines, True
            if not data:
                return lines + self._printed.take()[2], False
            lines += self._printed.feed(data)
        return lines, True

    def fill(self, worker: int) -> int | None:
        """Asks for a child in this place; the first time, returns the place's output to read.

        Raises OSError where what belongs to a new place can't be had.
        """
        if worker in self.outputs:
            self._send(encode_frame(frames.FILL, b"%d" % worker))
            return None
        made: list[int] = []
        try:
            made += (output := os.pipe2(os.O_CLOEXEC))
            made += (life := os.pipe2(os.O_CLOEXEC))
            stacks = StackFile()
            made.append(stacks.fd)
            made.append(shared_fd := stacks.share())
            fds = [output[1], life[0], shared_fd, *self._open_group(worker)]
        except OSError:
            _close_all(made)
            raise
        output_read, life_write = output[0], life[1]
        os.set_blocking(output_read, False)
        self._send(encode_frame(frames.FILL, b"%d" % worker, b"%d" % len(fds)), fds)
        self.outputs[worker], self._lives[worker] = output_read, life_write
        self.stacks[worker] = stacks
        return output_read

    def _open_group(self, worker: int) -> list[int]:
        """Where its children join their control group, and by what all in it is killed; nothing
        where there is none. Raises OSError where that may only be for a moment.
        """
        if self._subtree is None:
            return []
        try:
            group = self._subtree.make_place(self.pid, worker)
            try:
                fds = group.open()
            except OSError:
                group.remove()
                raise
        except OSError as error:
            if error.errno in _LACKS_DESCRIPTORS:
                raise
            self.group_error = str(error)
            return []
        self.groups[worker] = group
        return fds

    def forget_place(self, worker: int) -> None:
        """Closes this place's pipes, as it has not got them: `fill` sends others."""
        self.kill_place(worker)
        os.close(self.outputs.pop(worker))
        self.stacks.pop(worker).close()
        if group := self.groups.pop(worker, None):
            group.remove()

    def empty(self, worker: int) -> None:
        """Lets the place stay empty once its child has exited."""
        self._send(encode_frame(frames.EMPTY, b"%d" % worker))

    def kill(self, worker: int, pid: int) -> None:
        """Asks for SIGKILL to the group of the child in this place, if it is still this child."""
        self._send(encode_frame(frames.KILL, b"%d" % worker, b"%d" % pid))

    def kill_place(self, worker: int) -> None:
        """Has the kernel kill the group of the child in this place, whether or not the zygote hears
        anything; the place is of no use any more.
        """
        if (life_fd := self._lives.pop(worker, None)) is not None:
            os.close(life_fd)

    def look(self) -> None:
        """One look more without a word of it, until `receive` brings one."""
        self._unheard += 1

    @property
    def stands_still(self) -> bool:
        """True if it has told nothing for long, as if it were stopped, or hung in a fork's hook."""
        return self._unheard > _MOST_UNHEARD

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

    def _receive(self, events: list[ZygoteEvent]) -> bool:
        """Takes what one read brings; False if there is no more."""
        # The rest of a message whose descriptors were cut is read frame by frame: not together with
        # a next one, whose descriptors it would take.
        most = _missing_bytes(self._reader.rest) if self._are_fds_cut else _READ_BYTES
        try:
            data, ancillary, flags, _ = self._control.recvmsg(
                most, socket.CMSG_SPACE(4 * _MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            return False  # its pidfd tells that it is gone
        self._unheard = 0
        for _, _, packed in ancillary:
            fds = array.array("i")
            fds.frombytes(packed[: len(packed) // fds.itemsize * fds.itemsize])
            self._fds += fds
        is_cut = bool(flags & socket.MSG_CTRUNC)
        if ancillary or is_cut:  # else it goes on with the message before
            self._are_fds_cut = is_cut
        for kind, fields in self._reader.feed(data):
            try:
                events.append(self._event(kind, fields))
            except (ValueError, IndexError) as error:
                raise FrameError(f"a report of kind {kind} that is none") from error
        while self._are_fds_cut and self._fds:
            os.close(self._fds.pop())  # half of a pair
        return self._are_fds_cut or bool(ancillary) or len(data) == _READ_BYTES

    def exit_status(self) -> int | None:
        """How it ended (negative: by that signal), None while it runs; reaps it."""
        return self._process.poll()

    def end(self) -> None:
        """SIGKILL: its loss is then seen, and dealt with, as any other."""
        self._process.kill()

    def dismiss(self) -> None:
        """Lets it go, without waiting: it sweeps what its children left, and exits."""
        self.is_dismissed = True
        self._control.close()

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends it: the closed control socket makes it sweep its children and exit.

        The place's life pipes close too, so that a zygote that hangs saves no child.
        """
        self._control.close()
        for _, fds in self._outbox:
            _close_all(fds)
        self._outbox.clear()
        _close_all([*self._fds, *self._lives.values(), *self.outputs.values()])
        self._fds.clear()
        self._lives.clear()
        self.outputs.clear()
        for stacks in self.stacks.values():
            stacks.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self.pidfd >= 0:
            _close_all([self.pidfd, self.output_fd])
            self.pidfd = self.output_fd = -1
        for group in self.groups.values():
            group.remove()

    def _event(self, kind: int, fields: list[bytes]) -> ZygoteEvent:
        if kind == frames.FORKED:
            return self._forked(int(fields[0]), int(fields[1]))
        if kind == frames.EXITED:
            worker, pid, status, cpu_us, rss_kib = map(int, fields)
            return Exited(worker, pid, status, cpu_us, rss_kib * 1024)
        if kind == frames.READY:
            self.rss_bytes = int(fields[2])
            version, *texts = (field.decode(errors="replace") for field in (fields[1], *fields[4:]))
            unforkable = tuple(map(Unforkable, texts[::3], texts[1::3], texts[2::3]))
            spoken = int(fields[3]) if len(fields) > 3 else frames.FORMAT
            return Ready(int(fields[0]), version, self.rss_bytes, spoken, unforkable)
        if kind == frames.BOOT_FAILED:
            return BootFailed(fields[0].decode(errors="replace"))
        if kind == frames.FORK_FAILED:
            has_place = len(fields) == 2
            return ForkFailed(int(fields[0]), fields[1].decode(errors="replace"), has_place)
        if kind == frames.HERE:
            return Here()
        raise FrameError(f"a report of kind {kind}")

    def _forked(self, worker: int, pid: int) -> Forked | ForkFailed:
        count = 4 if self._has_mailboxes else 2
        if len(self._fds) < count:
            return self._forked_in_vain(worker, pid)
        channel_fd, pidfd, *mailbox_fds = self._fds[:count]
        del self._fds[:count]
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, channel_fd)
        channel.setblocking(False)
        return Forked(worker, pid, channel, pidfd, Mailbox(*mailbox_fds) if mailbox_fds else None)

    def _forked_in_vain(self, worker: int, pid: int) -> ForkFailed:
        """A child whose descriptors did not arrive can't be given a job: it goes.

        The kernel keeps the first of a message's descriptors where not all fit.
        """
        if not self._are_fds_cut:
            raise FrameError("a child came without its descriptors")
        self.kill(worker, pid)
        return ForkFailed(worker, "this master has too many open files")

    def _send(self, data: bytes, fds: list[int] | None = None) -> None:
        """Sends a frame, or keeps it until `flush`; the descriptors are its own from now on."""
        self._outbox.append((data, fds or []))
        self.flush()

    def flush(self) -> None:
        """Sends what is kept, as far as there is room.

        The socket holds some hundred frames, and a zygote that boots reads none: blocking here
        would stop the master too.
        """
        while self._outbox and not self.is_dismissed:
            data, fds = self._outbox[0]
            ancillary = []
            if fds:
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            try:
                self._control.sendmsg([data], ancillary)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                pass  # it is gone, which its pidfd tells
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                return  # too many of this user's are on their way to others (unix(7))
            del self._outbox[0]
            _close_all(fds)


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


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
