"""The master's one thread: an epoll that waits for descriptors, signals and the next timer.

Signal handlers do nothing; the interpreter writes each number into a socketpair the loop watches
(Trio's wakeup socketpair), so a signal is one more readable descriptor.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import select
import signal
import socket
from collections.abc import Collection, Iterable
from types import FrameType


class Loop:
    """Waits for readable and writable descriptors, and brings the signals that came."""

    def __init__(self, signals: Collection[signal.Signals]) -> None:
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._has_come = False
        self._epoll.register(self._wake_read.fileno(), select.EPOLLIN)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for signum in signals:
            signal.signal(signum, _do_nothing)
        signal.signal(signal.SIGABRT, _end_with_stack)
        # They may have been blocked where this program was started.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def block_signals(self, signals: Iterable[signal.Signals]) -> None:
        """Lets none of these come any more: as an interpreter ends, it takes its handlers away, and
        the next one would end the process with its own status.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def watch(self, fd: int) -> None:
        """Reports `fd` from now on when it is readable, closed or broken."""
        self._epoll.register(fd, select.EPOLLIN)

    def watch_once(self, fd: int) -> None:
        """Reports `fd` one time; `watch_again` for the next."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def watch_again(self, fd: int, writable: bool = False) -> None:
        """Reports `fd`, watched once before, one time more; also when writable, if wanted."""
        wanted = select.EPOLLIN | select.EPOLLONESHOT | (select.EPOLLOUT if writable else 0)
        self._epoll.modify(fd, wanted)

    def forget(self, fd: int) -> None:
        """Stops watching `fd`; one that was closed already is no error."""
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def wait(self, timeout_s: float) -> set[int]:
        """The descriptors that are ready within this time; empty when it is over."""
        ready = {fd for fd, _ in self._epoll.poll(max(0.0, timeout_s))}
        self._has_come = self._wake_read.fileno() in ready
        ready.discard(self._wake_read.fileno())
        return ready

    def signals(self) -> list[int]:
        """The signals that came before `wait` returned, in order."""
        if not self._has_come:
            return []  # one that came since then ends the next wait
        try:
            return list(self._wake_read.recv(4096))
        except BlockingIOError:
            return []


def _end_with_stack(_signum: int, _frame: FrameType | None) -> None:
    """systemd's watchdog sends SIGABRT to a loop that stands still: it says where, and ends.

    Not faulthandler.enable(): its alternate stack has room for a few signals at a time only.
    """
    os.write(2, b"ended by SIGABRT, here:\n")
    faulthandler.dump_traceback(2)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)
    os._exit(128 + signal.SIGABRT)  # PID 1 of a container does not die of its own signals


def _do_nothing(_signum: int, _frame: FrameType | None) -> None:
    """Only there so that the signal has a handler; the wakeup descriptor carries it."""
