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
    """Waits for readable and writable descriptors, and for signals."""

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
        # The program that started this one, or early_signals.py, may have blocked them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def block_signals(self, signals: Iterable[signal.Signals]) -> None:
        """Blocks these signals for good.

        An interpreter that ends removes its handlers: a signal after that would decide the exit
        status.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def watch(self, fd: int) -> None:
        """Reports `fd` from now on when it is readable, closed or broken."""
        self._epoll.register(fd, select.EPOLLIN)

    def watch_once(self, fd: int) -> None:
        """Reports `fd` once; `watch_again` makes it report the next event."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def watch_again(self, fd: int, writable: bool = False) -> None:
        """Reports `fd`, watched once before, once more; also when it is writable, if wanted."""
        wanted = select.EPOLLIN | select.EPOLLONESHOT | (select.EPOLLOUT if writable else 0)
        self._epoll.modify(fd, wanted)

    def forget(self, fd: int) -> None:
        """Stops watching `fd`; a closed descriptor is no error."""
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def wait(self, timeout_s: float) -> set[int]:
        """Returns the descriptors that are ready within this time; empty when it is over."""
        ready = {fd for fd, _ in self._epoll.poll(max(0.0, timeout_s))}
        self._has_come = self._wake_read.fileno() in ready
        ready.discard(self._wake_read.fileno())
        return ready

    def signals(self) -> list[int]:
        """Returns the signals that came before `wait` returned, in order."""
        if not self._has_come:
            return []  # a signal that came since then ends the next wait
        try:
            return list(self._wake_read.recv(4096))
        except BlockingIOError:
            return []


def _end_with_stack(_signum: int, _frame: FrameType | None) -> None:
    """Writes the stack to standard error, and dies by SIGABRT.

    systemd's watchdog sends that signal to a loop that stands still.

    Not faulthandler.enable(): its alternate stack has room for a few signals at a time only.
    """
    os.write(2, b"ended by SIGABRT, here:\n")
    faulthandler.dump_traceback(2)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)
    os._exit(128 + signal.SIGABRT)  # PID 1 of a container does not die of its own signals


def _do_nothing(_signum: int, _frame: FrameType | None) -> None:
    """Serves as a handler, so that the signal reaches the wakeup descriptor."""
