"""Small file systems of the campaign's own, to be filled: seen by it and its children alone."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_MS_REMOUNT, _MS_REC, _MS_PRIVATE = 0x20, 0x4000, 0x40000
DATA_SIZE, LOG_SIZE = "2g", "256m"
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
    _mount(folder, size, 0)


def fill(folder: Path) -> None:
    """Leaves not one byte on the folder's file system: it is made as small as what is on it."""
    room = os.statvfs(folder)
    _mount(
        folder, str((room.f_blocks - room.f_bfree) * room.f_frsize or room.f_frsize), _MS_REMOUNT
    )


def clear(folder: Path, size: str) -> None:
    """Gives it its size again."""
    _mount(folder, size, _MS_REMOUNT)


def unmount(folder: Path) -> None:
    """Takes the file system away with all that is on it; nothing if there is none."""
    _libc.umount2(os.fsencode(folder), _MNT_DETACH)


def _mount(folder: Path, size: str, flags: int) -> None:
    options = f"size={size}".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), f"can't mount {size} on {folder}")
