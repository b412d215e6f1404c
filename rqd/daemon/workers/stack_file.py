"""Where the processes of a place leave their Python stacks: by a signal, at a timeout, on request.

A file in memory of fixed size, of which master and children share one description, and so one
position: what faulthandler writes moves it, in whatever state the process is, and the master sees
by one system call whether something came. It can't grow, whoever writes.
"""

from __future__ import annotations

import os
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

from rqd.model.stack import without_own_frames

_ROOM_BYTES = 256 * 1024


class StackFile:
    """The stacks that a place's processes have written since they were last read."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.memfd_create("rqd-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _ROOM_BYTES)  # takes no memory until it is written
        fcntl(self.fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

    def share(self) -> int:
        """Another descriptor for it, to be passed on."""
        return os.dup(self.fd)

    @property
    def written_bytes(self) -> int:
        """How much has come."""
        # A job's own process may have moved it anywhere.
        return min(os.lseek(self.fd, 0, os.SEEK_CUR), _ROOM_BYTES)

    def read(self, start: int = 0) -> str:
        """What has come from this byte on."""
        size_bytes = max(0, self.written_bytes - start)
        if not size_bytes:
            return ""
        return os.pread(self.fd, size_bytes, start).decode(errors="replace").replace("\0", "")

    def take(self, start: int = 0) -> str:
        """What has come from this byte on, or before it if nothing has; then starts anew.

        rqd's own frames are left out.
        """
        if not self.written_bytes:
            return ""
        text = without_own_frames(self.read(start) or self.read())
        self.forget()
        return text

    def forget(self) -> None:
        """What comes next is written over what has come."""
        os.lseek(self.fd, 0, os.SEEK_SET)

    def close(self) -> None:
        """Nobody reads it any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
