"""Destinations of the log: a descriptor, or systemd's journal. Neither ever waits for a reader.

Bytes that can't be written at once are dropped and counted.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import stat
from typing import Protocol

from rqd.model.errors import ConfigurationError

JOURNAL_SOCKET = "/run/systemd/journal/socket"
# poll() reports a pipe writable when so many bytes fit (PIPE_BUF on Linux): a write of this size
# to a writable pipe can't block.
_PIECE_BYTES = 4096
_JOURNAL_BUFFER_BYTES = 8 * 1024 * 1024  # as systemd's own library asks for; the kernel may cut it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Sink(Protocol):
    """Writes records, and never waits."""

    dropped_bytes: int

    def write(self, record: bytes) -> None:
        """Writes the bytes that there is room for, and counts the rest in `dropped_bytes`."""

    def close(self) -> None:
        """Closes the descriptor, if the sink opened it."""


class DescriptorSink:
    """Writes to a descriptor without ever waiting for its reader."""

    def __init__(self, fd: int, *, is_own: bool = False, is_cut: bool = False) -> None:
        self._fd = fd
        self._is_own = is_own
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._is_cut = is_cut  # the line before has no end
        self.dropped_bytes = 0

    def write(self, record: bytes) -> None:
        """Writes the bytes that the reader has room for; counts the rest in `dropped_bytes`.

        A line that was cut ends before the next record.
        """
        if self._is_cut:
            record = b"\n" + record
        for start in range(0, len(record), _PIECE_BYTES):
            piece = record[start : start + _PIECE_BYTES]
            written = self._write_piece(piece)
            if written < len(piece):
                self.dropped_bytes += len(record) - start - written
                self._is_cut = start + written > 0 or self._is_cut
                return
        self._is_cut = False

    def _write_piece(self, piece: bytes) -> int:
        events = self._poll.poll(0)
        if not events or events[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return 0
        try:
            return os.write(self._fd, piece)
        except OSError:
            return 0

    def close(self) -> None:
        """Closes the descriptor, if the sink opened it."""
        if self._is_own:
            os.close(self._fd)


class JournalSink:
    """Sends records to systemd's journal, each as a datagram (its native protocol)."""

    def __init__(self, path: str) -> None:
        self._path = path
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _JOURNAL_BUFFER_BYTES)
        self.dropped_bytes = 0

    def write(self, record: bytes) -> None:
        """Sends the record, if the journal accepts it at once; else counts it as dropped."""
        try:
            # The socket is not connected, so that a restarted journal is found again.
            self._socket.sendto(record, self._path)
        except OSError as error:
            is_too_large = error.errno in (errno.EMSGSIZE, errno.ENOBUFS)
            if not is_too_large or not self._send_as_file(record):
                self.dropped_bytes += len(record)

    def _send_as_file(self, record: bytes) -> bool:
        """Sends a record that is too large for a datagram, as a sealed file in memory."""
        try:
            fd = os.memfd_create("rqd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        try:
            os.write(fd, record)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            self._socket.sendmsg([], passed, 0, self._path)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def file_sink(path: str) -> DescriptorSink:
    """Opens a file to append to. Raises ConfigurationError if it can't be opened."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # Non-blocking, as opening a named pipe without a reader would wait.
        fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
    except OSError as error:
        raise ConfigurationError(
            f"--log-file {path} can't be opened: {os.strerror(error.errno or 0)}"
        ) from None
    return DescriptorSink(fd, is_own=True, is_cut=_lacks_an_end(fd, path))


def _lacks_an_end(fd: int, path: str) -> bool:
    """True if the file's last line was cut, by a full disk say."""
    if not os.fstat(fd).st_size:
        return False
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def shared_sink(fd: int) -> DescriptorSink:
    """Returns a sink for a descriptor that other processes have, too: standard error.

    A terminal is opened a second time, non-blocking: poll() reports it writable at a byte's
    room, so a write may wait for a reader. The shared open file must stay blocking for the others.
    """
    if os.isatty(fd):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return DescriptorSink(os.open(f"/proc/self/fd/{fd}", flags), is_own=True)
        except OSError:
            pass  # another user's terminal: then poll() shows only that it is paused
    return DescriptorSink(fd)


def journal_sink() -> JournalSink:
    """Returns a sink for this machine's journal.

    Raises ConfigurationError if there is no journal, or no socket can be opened.
    """
    if not _is_socket(JOURNAL_SOCKET):
        raise ConfigurationError(
            f"--log-format journal: there is no journal at {JOURNAL_SOCKET}: write text or json"
        )
    try:
        return JournalSink(JOURNAL_SOCKET)
    except OSError as error:
        raise ConfigurationError(
            f"--log-format journal can't be opened: {os.strerror(error.errno or 0)}"
        ) from None


def is_journal(fd: int) -> bool:
    """True for a descriptor that systemd has connected to a journal which accepts records, too.

    JOURNAL_STREAM names the file by device and inode, so that a redirected descriptor is False.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    is_same = os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return is_same and _is_socket(JOURNAL_SOCKET)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
