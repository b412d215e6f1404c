"""The master's end of a zygote: starts it, sends it requests, receives its reports."""

from __future__ import annotations

import array
import errno
import os
import socket
import subprocess
from contextlib import ExitStack

from rqd.daemon.config import Config
from rqd.daemon.host.cgroups import GroupLimits, SlotGroup, Subtree, enter_subtree_if_asked
from rqd.daemon.host.pidfd import watched
from rqd.daemon.instance import Instance
from rqd.daemon.log.log import Log
from rqd.daemon.workers.output_buffer import Tail
from rqd.daemon.workers.stack_file import StackFile
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygotes.events import ForkFailed, Ready, Reports, ZygoteEvent
from rqd.daemon.zygotes.spawn import ZygoteSettings, settings_of_zygote, spawn

_MOST_READS, _READ_BYTES = 16, 65536
# So many checks in a row may find no report of a zygote: half a minute. A sound zygote sends a
# report between two checks.
_MOST_UNHEARD = 6
_LACKS_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class ZygoteProcess:
    """A running zygote, and the pipes of each worker's slot in it."""

    def __init__(self, settings: ZygoteSettings, subtree: Subtree | None = None) -> None:
        """`subtree` holds each worker's control group; None for no control groups.

        Raises OSError or SubprocessError if the system can't start a zygote.
        """
        with ExitStack() as ours, ExitStack() as theirs:
            self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.enter_context(self._control)
            theirs.enter_context(far)
            # Not the master's own output: if its reader hangs, the zygote's prints would block.
            self.output_fd, output_write = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, self.output_fd)
            theirs.callback(os.close, output_write)
            process = spawn(settings, far.fileno(), output_write)
            self.pid, self.pidfd = process.pid, watched(process)
            ours.pop_all()  # this object closes them from now on
        self._process = process
        self._control.setblocking(False)
        self.control_fd = self._control.fileno()  # readable when the zygote has reports
        os.set_blocking(self.output_fd, False)
        has_mailboxes = settings.jobs_per_child > 1
        self._reports = Reports(self._control, has_mailboxes=has_mailboxes)
        self._outbox: list[tuple[bytes, list[int]]] = []
        self.outputs: dict[int, int] = {}  # by worker: the pipe with its children's output
        self._subtree = subtree
        self.groups: dict[int, SlotGroup] = {}  # by worker
        self.stacks: dict[int, StackFile] = {}  # by worker: its children's stacks
        self._lives: dict[int, int] = {}
        self._unheard = 0
        self.rss_bytes = 0
        self.generation = 0  # its number among its master's zygotes, from 1
        self.group_error = ""  # why a worker has no control group, though it should
        self.is_retired = False  # another zygote serves by now
        self.is_dismissed = False
        self._printed = Tail()

    def read_output(self) -> tuple[bytes, bool]:
        """Returns the whole lines that the zygote itself has printed; and False at their end."""
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
        """Asks for a child in this slot.

        Returns the pipe with the slot's output the first time, then None. Raises OSError if the
        pipes and files of a new slot can't be had.
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
        """Makes a slot's control group; returns descriptors to join it and to kill all in it.

        Empty without control groups, or if the group can't be made. Raises OSError if descriptors
        are short, which may pass.
        """
        if self._subtree is None:
            return []
        try:
            group = self._subtree.make_slot(self.pid, worker)
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
        """Closes this slot's pipes, as the zygote has not received them. `fill` sends new ones."""
        self.kill_slot(worker)
        os.close(self.outputs.pop(worker))
        self.stacks.pop(worker).close()
        if group := self.groups.pop(worker, None):
            group.remove()

    def empty(self, worker: int) -> None:
        """Lets the slot stay empty once its child has exited."""
        self._send(encode_frame(protocol.EMPTY, b"%d" % worker))

    def kill(self, worker: int, pid: int) -> None:
        """Asks for SIGKILL to the group of the child in this slot, if it is still this child."""
        self._send(encode_frame(protocol.KILL, b"%d" % worker, b"%d" % pid))

    def kill_slot(self, worker: int) -> None:
        """Has the kernel kill the group of the child in this slot, even if the zygote hangs.

        The slot is of no use any more.
        """
        if (life_fd := self._lives.pop(worker, None)) is not None:
            os.close(life_fd)

    def check_alive(self) -> None:
        """Counts a check without a report of the zygote; `receive` resets the count."""
        self._unheard += 1

    @property
    def is_unresponsive(self) -> bool:
        """True if it has reported nothing for long: it may be stopped, or hang in a fork's hook."""
        return self._unheard > _MOST_UNHEARD

    def receive(self) -> list[ZygoteEvent]:
        """Returns the events since the last call. Raises FrameError for other bytes."""
        events = self._reports.receive()
        for event in events:
            self._unheard = 0
            if isinstance(event, Ready):
                self.rss_bytes = event.rss_bytes
            elif isinstance(event, ForkFailed) and event.useless_pid:
                self.kill(event.worker, event.useless_pid)
        return events

    def exit_status(self) -> int | None:
        """Reaps it; returns its exit status (negative: its signal), None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Sends it SIGKILL. Its loss is then noticed and handled as any other."""
        self._process.kill()

    def shut_down(self) -> None:
        """Has it exit, without waiting for it. It first kills all its descendants."""
        self.is_dismissed = True
        self._control.close()

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends it: at the end of the control socket it kills its children and exits.

        The slots' life pipes close too, so that no child survives a zygote that hangs. After
        `timeout_s` seconds the zygote is killed.
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
        """Sends a frame, or keeps it until `flush`. Closes the descriptors once they are sent."""
        self._outbox.append((data, fds or []))
        self.flush()

    def flush(self) -> None:
        """Sends the frames that are kept, as far as there is room.

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
                pass  # it is gone, which its pidfd reports
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                return  # too many descriptors of this user are in flight (unix(7))
            del self._outbox[0]
            _close_all(fds)


class ZygoteSpawner:
    """Starts zygotes with the settings that serve, or with the settings of a reload."""

    def __init__(self, config: Config, instance: Instance, log: Log) -> None:
        self.config = config
        self.next_config = config
        self._instance = instance
        self._subtree = enter_subtree_if_asked(_group_limits(config), log)

    def spawn(self, learnt: tuple[str, ...], *, is_next: bool) -> ZygoteProcess:
        """Starts a zygote that imports these modules besides the configured ones.

        `is_next`: with the settings of a reload. Raises OSError or SubprocessError.
        """
        config = self.next_config if is_next else self.config
        return ZygoteProcess(settings_of_zygote(config, self._instance, learnt), self._subtree)

    def accept(self) -> Config:
        """Has the settings of the reload serve from now on, and returns them."""
        self.config = self.next_config
        if self._subtree is not None:
            self._subtree.limits = _group_limits(self.config)
        return self.config


def _group_limits(config: Config) -> GroupLimits:
    """The limits that the kernel enforces."""
    return GroupLimits(config.limits.memory_bytes, config.max_pids)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
