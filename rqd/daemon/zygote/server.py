"""The zygote: holds the preloaded application and forks the children; no Redis, no logging.

It obeys frames on its control socket (see protocol.py), keeps a child in every slot that the
master wants filled, reaps, and reports. It is the children's parent, so it alone signals their
groups: a pid can't be reused while its zombie waits to be reaped. Every fork pays for its imports;
tests/unit/test_layout.py holds the list.
"""

from __future__ import annotations

import _socket
import os
import sys
from _signal import SIGKILL
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET, socketpair
from errno import ETOOMANYREFS
from fcntl import F_SETFL, F_SETSIG, fcntl
from os import P_PID, close, fork, killpg, pidfd_open, setpgid, wait4, waitid, waitpid
from select import POLLIN, poll
from time import monotonic

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.child import Child, Pipes
from rqd.daemon.zygote.exit_cleanup import children_of, reap_strangers
from rqd.daemon.zygote.protocol import FrameReader, encode_frame

_BYTE_ORDER = sys.byteorder
_IDLE_MS = int(protocol.HERE_S * 1000)
_AGAIN_MS = 50
_HERE = encode_frame(protocol.HERE)
_MAX_FDS = 64
_LOOK_ONLY = os.WEXITED | os.WNOWAIT
_MOST_REPORTED_FDS = 200  # a message has room for 253 (SCM_MAX_FD)


class Slot:
    """A worker's slot: its children's pipes, and its current child (pid 0 for none)."""

    __slots__ = ("kill_fd", "pid", "pidfd", "pipes", "wanted")

    def __init__(self, pipes: Pipes, kill_fd: int) -> None:
        self.pipes = pipes
        self.kill_fd = kill_fd  # of its control group; -1 for none
        self.pid = 0
        self.pidfd = -1
        self.wanted = True


class Zygote:
    """The zygote's loop: reads control frames, forks, reaps, and reports."""

    def __init__(
        self, control: _socket.socket, child: Child, stack_at_fd: int, kept: list[object]
    ) -> None:
        self._control = control
        self._control_fd = control.fileno()
        self._child = child
        self._live = child.live  # bound once
        self._has_mailbox = child.jobs > 1
        self._stack_at_fd = stack_at_fd
        self._kept = kept
        self._reader = FrameReader()
        self._received_fds: list[int] = []
        self._slots: dict[int, Slot] = {}
        self._by_pidfd: dict[int, int] = {}
        self._poller = poll()
        self._poller.register(control.fileno(), POLLIN)
        self._reap_at = 0.0
        self._reports: list[bytes] = []
        self._report_fds: list[int] = []

    def run(self) -> None:
        """Serves until the master closes the control socket, then kills descendants and exits."""
        control_fd = self._control_fd
        while True:
            has_orders = False
            for fd, _ in self._poller.poll(_AGAIN_MS if self._reports else _IDLE_MS):
                if fd == control_fd:
                    has_orders = True
                else:
                    self._reap(self._by_pidfd[fd])
            if has_orders and not self._obey():
                break
            if monotonic() >= self._reap_at:
                self._reap_at = monotonic() + _IDLE_MS / 1000
                reap_strangers({slot.pid for slot in self._slots.values()})
                self._child.read_clock()
                self._reports.append(_HERE)
            self._send_reports()
        self._sweep()
        os._exit(0)

    def _obey(self) -> bool:
        try:
            data, ancillary, _, _ = self._control.recvmsg(
                65536, _socket.CMSG_SPACE(4 * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:  # the master left with reports of ours unread
            return False
        if not data:
            return False
        for _, _, packed in ancillary:
            self._received_fds += memoryview(packed[: len(packed) // 4 * 4]).cast("i")
        for kind, fields in self._reader.feed(data):
            if kind == protocol.FILL:
                self._fill(int(fields[0]), int(fields[1]) if len(fields) > 1 else 0)
            elif slot := self._slots.get(int(fields[0])):  # none: an earlier zygote had the slot
                if kind == protocol.EMPTY:
                    slot.wanted = False
                elif kind == protocol.KILL and slot.pid == int(fields[1]):
                    _kill_child(slot.pid)
                    _kill_escaped(slot.kill_fd)
        return True

    def _fill(self, number: int, count: int) -> None:
        if number not in self._slots and not self._take_slot(number, count):
            return
        self._slots[number].wanted = True
        if not self._slots[number].pid:
            self._fork(number)

    def _take_slot(self, number: int, count: int) -> bool:
        """Opens a new slot with its descriptors.

        False if there was no room for them here; then the master sends them again.
        """
        fds, self._received_fds = self._received_fds[:count], self._received_fds[count:]
        if count and len(fds) == count:
            self._slots[number] = self._open_slot(fds)
            return True
        for fd in fds:  # the kernel keeps a message's first descriptors, as far as there is room
            close(fd)
        if count:  # else the master does not know yet that they were lost
            self._report_failure(number, "no room for its descriptors", b"no slot")
        return False

    def _open_slot(self, fds: list[int]) -> Slot:
        output_fd, life_fd, stack_fd, *group_fds = fds
        # The master holds the only write end: when it is gone, the kernel sends SIGKILL to the
        # owner of this description, which each child makes its own process group.
        fcntl(life_fd, F_SETSIG, SIGKILL)
        fcntl(life_fd, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        join_fd, kill_fd = group_fds or (-1, -1)
        pipes = Pipes(output_fd, life_fd, stack_fd, self._stack_at_fd, join_fd)
        return Slot(pipes, kill_fd)

    def _fork(self, number: int) -> None:
        if len(self._report_fds) >= _MOST_REPORTED_FDS:  # they could not be sent: make no more
            self._report_failure(number, "too many descriptors are on their way")
            return
        slot = self._slots[number]
        live, pipes, near, mailbox = self._live, slot.pipes, None, None
        try:
            ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
            if self._has_mailbox:
                near, mailbox = socketpair(AF_UNIX, SOCK_SEQPACKET)
        except OSError as error:
            self._report_failure(number, error)
            return
        far_fds = (ours.detach(), near.detach()) if near else (ours.detach(),)
        others = (self._control_fd, *far_fds)
        try:
            pid = fork()
        except OSError as error:
            theirs.close()
            self._give_up_fork(number, error, far_fds)
            return
        if pid == 0:
            # By local names alone, as the rehearsals did not run this line.
            live(number, theirs, mailbox, pipes, others)
        theirs.close()
        try:
            setpgid(pid, pid)  # from both sides, so that no order leaves it in our own group
        except OSError:
            pass  # the child did so itself, or is dead; its pidfd will show it
        try:
            slot.pidfd = pidfd_open(pid)
        except OSError as error:
            # Nobody would see the child end, so it is killed before it gets a job.
            _kill_child(pid)
            waitpid(pid, 0)
            self._give_up_fork(number, error, far_fds)
            return
        slot.pid = pid
        self._by_pidfd[slot.pidfd] = number
        self._poller.register(slot.pidfd, POLLIN)
        self._reports.append(encode_frame(protocol.FORKED, b"%d" % number, b"%d" % pid))
        self._report_fds += [far_fds[0], slot.pidfd, *far_fds[1:]]
        if mailbox:
            self._report_fds.append(mailbox.detach())
        if len(self._report_fds) >= _MOST_REPORTED_FDS:
            self._send_reports()

    def _give_up_fork(self, number: int, error: OSError, far_fds: tuple[int, ...]) -> None:
        for fd in far_fds:
            close(fd)
        self._report_failure(number, error)

    def _reap(self, number: int) -> None:
        """Kills the rest of an ended child's group, reaps and reports it, and forks the next."""
        slot = self._slots[number]
        pid = slot.pid
        _kill_group(pid)  # the zombie still holds the pid: this can't hit a stranger
        _kill_escaped(slot.kill_fd)
        status = cpu_us = rss_kib = 0
        seen = waitid(P_PID, pid, _LOOK_ONLY)
        if seen is not None and seen.si_status == 0:
            waitpid(pid, 0)
        else:
            # Not for every child: each call of wait4 imports `resource`, 13 pages to copy a fork.
            _, status, usage = wait4(pid, 0)
            cpu_us = int((usage.ru_utime + usage.ru_stime) * 1_000_000)
            rss_kib = usage.ru_maxrss
        self._poller.unregister(slot.pidfd)
        del self._by_pidfd[slot.pidfd]
        if slot.pidfd not in self._report_fds:  # else closed once it was sent
            close(slot.pidfd)
        slot.pid, slot.pidfd = 0, -1
        facts = [b"%d" % fact for fact in (number, pid, status, cpu_us, rss_kib)]
        self._reports.append(encode_frame(protocol.EXITED, *facts))
        # If a child failed, the next may fail as well: the master decides when to try again.
        if slot.wanted and status == 0:
            self._fork(number)

    def _report_failure(self, number: int, error: object, *more: bytes) -> None:
        why = str(error).encode(errors="replace")
        self._reports.append(encode_frame(protocol.FORK_FAILED, b"%d" % number, why, *more))

    def _send_reports(self) -> None:
        if not self._reports:
            return
        data, fds = b"".join(self._reports), self._report_fds
        self._reports, self._report_fds = [], []
        ancillary = []
        if fds:
            packed = b"".join([fd.to_bytes(4, _BYTE_ORDER) for fd in fds])
            ancillary = [(SOL_SOCKET, SCM_RIGHTS, packed)]
        try:
            sent = self._control.sendmsg([data], ancillary)
            if sent < len(data):
                self._control.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the master is gone: the next read of the control socket ends the loop
        except OSError as error:
            if error.errno != ETOOMANYREFS:
                raise
            # Too many of this user's descriptors are in flight (unix(7)): they will arrive.
            self._reports, self._report_fds = [data], fds
            return
        pidfds = self._by_pidfd
        for fd in fds:
            if fd not in pidfds:
                close(fd)  # our copy of a child's sockets: only master and child hold them now

    def _sweep(self) -> None:
        """Kills every descendant: the children's groups, then processes that escaped from them.

        It does not wait for a process that has changed its user: the kernel ends that with the
        master.
        """
        for slot in self._slots.values():
            if slot.pid:
                _kill_group(slot.pid)
                _kill_escaped(slot.kill_fd)
        while True:
            killed = [pid for pid in children_of(os.getpid()) if _may_kill(pid)]
            if not killed:
                return
            try:
                waitpid(killed[0], 0)
            except ChildProcessError:
                pass  # the application ignores SIGCHLD: the kernel has reaped it


def _kill_child(pid: int) -> None:
    _kill_group(pid)
    _may_kill(pid)  # a job may have left its own group


def _may_kill(pid: int) -> bool:
    """Kills a child of ours that was not reaped, so that its pid is still its own.

    False if it runs as another user and we lack the right to kill it.
    """
    try:
        os.kill(pid, SIGKILL)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def _kill_group(pid: int) -> None:
    try:
        killpg(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # the group is gone, or runs as another user: then we can kill only its leader


def _kill_escaped(kill_fd: int) -> None:
    """Kills all processes of a control group, by its file; -1 for none.

    A process that left its process group is still in there, even if it runs as another user.
    """
    if kill_fd >= 0:
        try:
            os.write(kill_fd, b"1")
        except OSError:
            pass  # the group is gone
