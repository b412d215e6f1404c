"""Small file systems of the campaign's own, to be filled: seen by it and its children alone."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_FILLER = "filler"
_libc = ctypes.CDLL(None, use_errno=True)


def enter_own_mounts() -> str:
    """From now on mounts are this process's and vanish with it; why not, or empty.

    To be called before the first thread starts.
    """
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return f"no mounts of its own ({os.strerror(ctypes.get_errno())}; that takes root)"
    return ""


def mount_small(folder: Path, size: str) -> None:
    """An empty file system in memory on this folder. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size}".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options):
        raise OSError(ctypes.get_errno(), f"can't mount on {folder}")


def fill(folder: Path) -> None:
    """Leaves not one byte on the folder's file system."""
    fd = os.open(folder / _FILLER, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        room = os.statvfs(folder)
        try:
            os.posix_fallocate(fd, 0, max(1, room.f_bavail * room.f_frsize))
        except OSError:
            pass
        while True:
            try:
                if os.write(fd, b"\0" * 4096) < 4096:
                    return
            except OSError:
                return
    finally:
        os.close(fd)


def clear(folder: Path) -> None:
    """Takes away what filled it."""
    (folder / _FILLER).unlink(missing_ok=True)
