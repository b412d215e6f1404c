"""Where the log's records go: a descriptor, or systemd's journal. Neither ever waits for a reader.

What can't be written at once is dropped and counted.
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
# poll() reports a pipe writable when this much fits (POSIX PIPE_BUF on Linux): such a write to a
# writable pipe can't block.
_PIECE_BYTES = 4096
_JOURNAL_BUFFER_BYTES = 8 * 1024 * 1024  # as systemd's own library asks for; the kernel may cut it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Sink(Protocol):
    """Takes records."""

    dropped_bytes: int

    def write(self, record: bytes) -> None:
        """Writes what there is room for at once; the rest is counted in `dropped_bytes`."""

    def close(self) -> None:
        """Gives up what it has opened."""


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
        """Writes what the reader has room for; the rest is counted in `dropped_bytes`."""
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
        """Closes the descriptor, if nobody else has it."""
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
        """Sends it, if the journal takes it at once; else it is counted in `dropped_bytes`."""
        try:
            # Not connected: a journal that was started anew is found again.
            self._socket.sendto(record, self._path)
        except OSError as error:
            is_too_large = error.errno in (errno.EMSGSIZE, errno.ENOBUFS)
            if not is_too_large or not self._send_as_file(record):
                self.dropped_bytes += len(record)

    def _send_as_file(self, record: bytes) -> bool:
        """What no datagram holds goes as a sealed file in memory."""
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
    """A file that is appended to. Raises ConfigurationError if it can't be opened."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # Non-blocking: a named pipe that nobody reads would hold up the open.
        fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
    except OSError as error:
        raise ConfigurationError(
            f"--log-file {path} can't be opened: {os.strerror(error.errno or 0)}"
        ) from None
    return DescriptorSink(fd, is_own=True, is_cut=_lacks_an_end(fd, path))


def _lacks_an_end(fd: int, path: str) -> bool:
    """Whether a file's last line was cut, as its disk was full."""
    if not os.fstat(fd).st_size:
        return False
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def shared_sink(fd: int) -> DescriptorSink:
    """A descriptor that others have, too: standard error.

    A terminal is opened anew, as poll() reports it writable when it takes one byte more: it may
    have no reader, and a description that others have, too, can't be made non-blocking.
    """
    if os.isatty(fd):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return DescriptorSink(os.open(f"/proc/self/fd/{fd}", flags), is_own=True)
        except OSError:
            pass  # another user's: then only one that was paused is known not to be read
    return DescriptorSink(fd)


def journal_sink() -> JournalSink:
    """The journal of this machine. Raises ConfigurationError where there is none, or no socket."""
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
    """True for a descriptor that systemd has connected to a journal, which takes records too.

    JOURNAL_STREAM says which file it was; one that was redirected since then is another.
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
