"""The file to which the processes of a slot write their Python stacks.

They write after a fatal signal, at a timeout, or on request. It is a file in memory, of fixed size:
no process can make it grow. Master and children share one description, and so one position. The
writes of faulthandler move it, in any state of the process. So the master sees by one system call
whether there are new stacks.
"""

from __future__ import annotations

import os
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

from rqd.model.stack import without_own_frames

_ROOM_BYTES = 256 * 1024


class StackFile:
    """The stacks that a slot's processes have written since the last `take` or `forget`."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.memfd_create("rqd-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _ROOM_BYTES)  # needs no memory until it is written
        fcntl(self.fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

    def share(self) -> int:
        """Returns another descriptor of the file, to be passed on."""
        return os.dup(self.fd)

    @property
    def written_bytes(self) -> int:
        """How many bytes were written."""
        # A job's own process may have moved it anywhere.
        return min(os.lseek(self.fd, 0, os.SEEK_CUR), _ROOM_BYTES)

    def read(self, start: int = 0) -> str:
        """The text from byte `start` on."""
        size_bytes = max(0, self.written_bytes - start)
        if not size_bytes:
            return ""
        return os.pread(self.fd, size_bytes, start).decode(errors="replace").replace("\0", "")

    def take(self, start: int = 0) -> str:
        """Returns the text from byte `start` on, or all text if there is none; then empties the
        file.

        rqd's own frames are left out.
        """
        if not self.written_bytes:
            return ""
        text = without_own_frames(self.read(start) or self.read())
        self.forget()
        return text

    def forget(self) -> None:
        """Empties the file: the next stacks overwrite the present ones."""
        os.lseek(self.fd, 0, os.SEEK_SET)

    def close(self) -> None:
        """Closes the master's descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
