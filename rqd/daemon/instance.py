"""A master's name on its host, protected by a lock.

A lock proves more than pid and host name: two containers may share both. A master that has the
lock knows that its predecessor is gone. The lock's file or the row in Redis may show that the
predecessor ran on this very host. If so, the master kills its leftovers (host/orphans.py) and takes
its jobs back at once. Else the jobs wait for the end of their leases.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rqd.daemon.host.orphans import has_open
from rqd.model.errors import ConfigurationError, MasterExistsError
from rqd.store.embedded import state_home
from rqd.store.urls import hide_password

_MOST_SLOTS = 1000
_TOKEN_CHARS = 32


def name_is_taken(name: str, host: str, pid: str) -> MasterExistsError:
    """Returns the error for a name whose master is alive."""
    return MasterExistsError(
        f"a master named {name!r} is alive (host {host}, pid {pid}): stop it, or choose another"
        " --name"
    )


@dataclass(frozen=True, slots=True)
class Holder:
    """A master that has, or had, a lock. `pid` is for people to read."""

    boot: str
    pid: str


class Instance:
    """A master's name, with the lock on its file for as long as this process lives.

    `chosen` None chooses the host's name and the lowest free number: `web1.1`, `web1.2`. If the
    folder of locks can't be used (`lock_error` says why) there is no lock and no take-over.
    Raises MasterExistsError if a master of the chosen name runs on this host.
    """

    def __init__(self, url: str, namespace: str, chosen: str | None) -> None:
        self.is_chosen = chosen is not None
        self.boot = os.urandom(8).hex()
        self.name = chosen or ""
        # Equal for two masters of a name if both locked the same file, under one kernel and process
        # namespace: then the later master knows that the earlier is gone.
        self.lock_id = ""
        self.predecessor: Holder | None = None  # had this lock in this place, and never left
        self.lock_error = ""
        self.lock_path = Path()
        self.lock_fd = -1  # without a lock
        self._is_new = True
        self._slot = 0
        self._kind = _kind(url, namespace)
        self._namespace, self._url = namespace, hide_password(url)
        if chosen is None:
            self.take_next()
        elif not self._take():
            raise name_is_taken(chosen, socket.gethostname(), self._holder())

    @property
    def is_locked(self) -> bool:
        """True if no other master on this host can have the name."""
        return self.lock_fd >= 0

    def take_next(self) -> None:
        """Takes the name with the next number that is free on this host."""
        self.release()
        host = socket.gethostname()
        while self._slot < _MOST_SLOTS:
            self._slot += 1
            self.name = f"{host}.{self._slot}"
            if self._take():
                return
        raise MasterExistsError(f"{_MOST_SLOTS} masters of this host are known: choose a --name")

    def note_state(self, state: str) -> None:
        """Writes the master's state to the lock's file, whose age shows that its loop runs.

        `masters_here` reads it. Raises OSError if the disk is full, say.
        """
        if self.is_locked:
            holder = self.predecessor or Holder(self.boot, str(os.getpid()))
            facts = [f" {os.getpid()}", state, self.name, self._namespace, self._url]
            facts += [holder.boot, holder.pid, self.lock_id]
            lines = "".join(f"{fact}\n" for fact in facts).encode()
            os.pwrite(self.lock_fd, lines, _TOKEN_CHARS)
            os.ftruncate(self.lock_fd, _TOKEN_CHARS + len(lines))

    def succeed(self) -> None:
        """Forgets the predecessor, once its processes are gone and its jobs taken back.

        From the next note on, the lock's file names this master as the holder.
        """
        self.predecessor = None

    def leave(self) -> None:
        """Gives the name up, for a master that leaves nothing behind."""
        if self.is_locked:
            with suppress(OSError):  # then only a file that nobody locks stays
                self.lock_path.unlink()
        self._close()

    def release(self) -> None:
        """Gives the name up, for a master that never began: a predecessor's file stays."""
        if self.is_locked and self._is_new:
            self.lock_path.unlink(missing_ok=True)
        self._close()

    def _take(self) -> bool:
        """Locks the name's file; False if another master of this host has the name."""
        try:
            folder = lock_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_path = folder / f"{self._kind}-{self.name}.lock"
            self.lock_fd = fd = locked(self.lock_path)
            before = self.lock_path.read_bytes()
            self._is_new = not before
            self.lock_id = _lock_id(fd)
            self.predecessor = _holder_in(before, self.lock_id)
            self.note_state("starting")
        except BlockingIOError:
            return False
        except ConfigurationError as error:
            self.lock_error = str(error)
        except OSError as error:
            self.lock_error = f"{error}: set {lock_folder_variable()} to another folder"
        return True

    def _holder(self) -> str:
        try:
            return _lines_in(self.lock_path.read_bytes())[0]
        except OSError:
            return "?"  # it has just left

    def _close(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
        self.lock_fd, self.lock_id, self.predecessor = -1, "", None


@dataclass(frozen=True, slots=True)
class MasterHere:
    """A living master of this host, with its state and the seconds since it wrote that (`age_s`).

    `namespace` and `url` name its Redis, without the password; `?` if it is of an older rqd.
    """

    name: str
    pid: str
    state: str
    age_s: float
    namespace: str
    url: str


def lock_folder() -> Path:
    """Returns the folder of this user's locks on this host; it need not exist yet.

    Raises ConfigurationError if there is no home for it.
    """
    if given := _state_directory():
        return Path(given) / "masters"
    try:
        return state_home() / "rqd" / "masters"
    except RuntimeError:
        raise ConfigurationError(
            "there is no home for the locks of masters: set XDG_STATE_HOME"
        ) from None


def lock_folder_variable() -> str:
    """Returns the name of the environment variable that decides `lock_folder`."""
    return "STATE_DIRECTORY" if _state_directory() else "XDG_STATE_HOME"


def masters_here(backend: tuple[str, str] | None = None) -> Iterator[MasterHere]:
    """Yields the living masters with locks in `lock_folder`, without asking Redis.

    With a `backend`, a URL and a namespace, only its masters. Raises ConfigurationError as
    `lock_folder`.
    """
    beginning = "" if backend is None else f"{_kind(*backend)}-"
    for path in sorted(lock_folder().resolve().glob("*.lock")):
        if not path.name.startswith(beginning):
            continue
        try:
            pid, state, name, namespace, url = (*_lines_in(path.read_bytes()), *"????")[:5]
            age_s = max(0.0, time.time() - path.stat().st_mtime)
        except OSError:
            continue  # it has just left
        # Not by trying the lock: a master that starts at this moment would find it taken.
        if pid.isdecimal() and has_open(pid, str(path)):
            yield MasterHere(name, pid, state, age_s, namespace, url)


def _state_directory() -> str:
    # systemd names the unit's own folder, which outlives the service, for StateDirectory=.
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return given if os.path.isabs(given) else ""


def _kind(url: str, namespace: str) -> str:
    address = hashlib.sha256(hide_password(url).encode()).hexdigest()[:12]
    return f"{namespace}-{address}"


def _lines_in(lock: bytes) -> list[str]:
    """Returns the lines that `note_state` wrote, at least one; `?` for an empty line."""
    text = lock[_TOKEN_CHARS:].decode(errors="replace")
    return [line.strip() or "?" for line in text.split("\n")]


def _holder_in(lock: bytes, lock_id: str) -> Holder | None:
    """Returns the holder that a lock file names; None if it was in another place."""
    match _lines_in(lock):
        case [_, _, _, _, _, boot, pid, holders_lock, _] if holders_lock == lock_id:
            return Holder(boot, pid)
    return None


def locked(path: Path) -> int:
    """Opens and locks the file. Raises BlockingIOError if another process has it, OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except FileNotFoundError:
            pass
        except OSError:
            os.close(fd)
            raise
        os.close(fd)  # its last owner has removed it meanwhile: the path is another file, or none


def _lock_id(fd: int) -> str:
    """Returns an id of this file, kernel and process namespace, different from all others.

    The file alone is not enough: on a shared file system another host can lock it, too.
    """
    token = os.pread(fd, _TOKEN_CHARS, 0)
    if len(token) < _TOKEN_CHARS:
        token = os.urandom(_TOKEN_CHARS // 2).hex().encode()
        os.pwrite(fd, token, 0)
    with open("/proc/sys/kernel/random/boot_id") as boot_id:
        kernel = boot_id.read().strip()
    return f"{token.decode(errors='replace')}.{kernel}.{os.stat('/proc/self/ns/pid').st_ino}"
