"""The master's end of the zygote: starts it, tells it what to do, hears what happened."""

from __future__ import annotations

import array
import errno
import os
import socket
import subprocess
from contextlib import ExitStack

from rqd.daemon.host.cgroups import SlotGroup, Subtree
from rqd.daemon.host.pidfd import watched
from rqd.daemon.workers.forensics import Tail
from rqd.daemon.workers.stack_file import StackFile
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygotes.events import ForkFailed, Ready, Reports, ZygoteEvent
from rqd.daemon.zygotes.spawn import ZygoteSettings, spawn

_MOST_READS, _READ_BYTES = 16, 65536
# Looks in a row that find no word of a zygote, which speaks once between two: half a minute.
_MOST_UNHEARD = 6
_LACKS_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class ZygoteProcess:
    """A running zygote, and the pipes of each worker's place in it."""

    def __init__(self, settings: ZygoteSettings, subtree: Subtree | None = None) -> None:
        """`subtree`: where each worker has a control group, None for nowhere.

        Raises OSError or SubprocessError if the system won't have one more.
        """
        with ExitStack() as ours, ExitStack() as theirs:
            self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.enter_context(self._control)
            theirs.enter_context(far)
            # Not ours: a reader that hangs would hold up what prints there.
            self.output_fd, output_write = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, self.output_fd)
            theirs.callback(os.close, output_write)
            process = spawn(settings, far.fileno(), output_write)
            self.pid, self.pidfd = process.pid, watched(process)
            ours.pop_all()  # they are this object's now
        self._process = process
        self._control.setblocking(False)
        os.set_blocking(self.output_fd, False)
        has_mailboxes = settings.jobs_per_child > 1
        self._reports = Reports(self._control, has_mailboxes=has_mailboxes)
        self._outbox: list[tuple[bytes, list[int]]] = []
        self.outputs: dict[int, int] = {}  # where what a worker's children print is read
        self._subtree = subtree
        self.groups: dict[int, SlotGroup] = {}  # by worker
        self.stacks: dict[int, StackFile] = {}  # of the children in each worker's place
        self._lives: dict[int, int] = {}
        self._unheard = 0
        self.rss_bytes = 0
        self.generation = 0  # which one of its master's it is, from 1
        self.group_error = ""  # why a worker has no control group, though it should
        self.is_dismissed = False
        self._printed = Tail()

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
            self._send(encode_frame(protocol.FILL, b"%d" % worker))
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
        self._send(encode_frame(protocol.FILL, b"%d" % worker, b"%d" % len(fds)), fds)
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
        self._send(encode_frame(protocol.EMPTY, b"%d" % worker))

    def kill(self, worker: int, pid: int) -> None:
        """Asks for SIGKILL to the group of the child in this place, if it is still this child."""
        self._send(encode_frame(protocol.KILL, b"%d" % worker, b"%d" % pid))

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
    def is_unresponsive(self) -> bool:
        """True if it has told nothing for long, as if it were stopped, or hung in a fork's hook."""
        return self._unheard > _MOST_UNHEARD

    def receive(self) -> list[ZygoteEvent]:
        """What has been reported since the last call. Raises FrameError on nonsense."""
        events = self._reports.receive()
        for event in events:
            self._unheard = 0
            if isinstance(event, Ready):
                self.rss_bytes = event.rss_bytes
            elif isinstance(event, ForkFailed) and event.useless_pid:
                self.kill(event.worker, event.useless_pid)
        return events

    def exit_status(self) -> int | None:
        """How it ended (negative: by that signal), None while it runs; reaps it."""
        return self._process.poll()

    def end(self) -> None:
        """SIGKILL: its loss is then seen, and dealt with, as any other."""
        self._process.kill()

    def shut_down(self) -> None:
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
        self._reports.close()
        _close_all([*self._lives.values(), *self.outputs.values()])
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


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
