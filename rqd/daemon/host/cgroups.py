"""Control groups, version 2: the kernel's own hold on what a job takes, where a part of its tree is
delegated to the daemon.

    DELEGATED                       by systemd's Delegate=yes, say; no process may stay here
    ├─ rqd-MASTER                   master, zygotes, an embedded server
    ├─ rqd-MASTER-ZYGOTE-1          the place of worker 1, whose children join it by themselves
    └─ ..

A place's group lives as long as its zygote: to make one for each job would leave the kernel with
as many that are dying, as long as a page of theirs is cached.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rqd.daemon.log.log import Log

_DEATH_MS = 50
_PREFIX = "rqd-"
# What the kernel counts besides the job's own memory: page tables, sockets, dirty files.
_ROOM_BYTES, _ROOM_SHARE = 16 * 1024 * 1024, 32


class NotDelegated(Exception):
    """There is no part of the tree that is this daemon's; the text says why."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What is to be held for each job: memory in bytes, processes; None for no limit."""

    memory_bytes: int | None = None
    processes: int | None = None

    def __bool__(self) -> bool:
        return bool(self.controllers)

    @property
    def controllers(self) -> frozenset[str]:
        """Those that it takes."""
        wanted = {"memory": self.memory_bytes, "pids": self.processes}
        return frozenset(name for name, limit in wanted.items() if limit is not None)


class OomKill(Enum):
    """Whose memory was used up when the kernel killed: the group's own limit, or more than that."""

    AT_LIMIT = "at the limit"
    ELSEWHERE = "elsewhere"


class SlotGroup:
    """The group of a worker's place in one zygote."""

    def __init__(self, folder: Path, controllers: frozenset[str]) -> None:
        """Makes it. Raises OSError."""
        self.folder = folder
        self._has_memory = "memory" in controllers
        self._limit_bytes: int | None = None
        self._counted: dict[str, int] = {}
        folder.mkdir()
        if self._has_memory:
            (folder / "memory.oom.group").write_text("1")  # all of a job, or none

    def limit_processes(self, most: int) -> None:
        """Raises OSError."""
        (self.folder / "pids.max").write_text(str(most))

    def limit_memory(self, limit_bytes: int | None) -> None:
        """None for no limit. Raises OSError."""
        if self._has_memory and limit_bytes != self._limit_bytes:
            room_bytes = _ROOM_BYTES + (limit_bytes or 0) // _ROOM_SHARE
            most = "max" if limit_bytes is None else str(limit_bytes + room_bytes)
            (self.folder / "memory.max").write_text(most)
            self._limit_bytes = limit_bytes

    def open(self) -> list[int]:
        """Descriptors by which to join it and to kill all in it; they are the caller's.

        Raises OSError.
        """
        join_fd = self._open("cgroup.procs")
        try:
            return [join_fd, self._open("cgroup.kill")]
        except OSError:
            os.close(join_fd)
            raise

    def take_oom_kill(self) -> OomKill | None:
        """What the kernel has killed for in this group since the last call, if it has."""
        before, now = self._counted, counters(self.folder / "memory.events")
        self._counted = now
        if now.get("oom_kill", 0) <= before.get("oom_kill", 0):
            return None
        # Only a group's own limit counts as its `oom`.
        is_own = now.get("oom", 0) > before.get("oom", 0)
        return OomKill.AT_LIMIT if is_own else OomKill.ELSEWHERE

    def remove(self) -> None:
        """Kills what is left in it."""
        _remove(self.folder)

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC)


class Subtree:
    """What was delegated, with this process in a leaf of its own."""

    def __init__(self, folder: Path, controllers: frozenset[str], limits: GroupLimits) -> None:
        self.folder = folder
        self.controllers = controllers
        self.limits = limits  # of places that are made from now on

    def make_place(self, zygote: int, worker: int) -> SlotGroup:
        """A group for this worker's children. Raises OSError."""
        folder = self.folder / f"{_PREFIX}{os.getpid()}-{zygote}-{worker}"
        try:
            group = SlotGroup(folder, self.controllers)
            if self.limits.processes is not None and "pids" in self.controllers:
                group.limit_processes(self.limits.processes)
            group.limit_memory(self.limits.memory_bytes)
        except OSError:
            with suppress(OSError):
                folder.rmdir()  # it may be tried again
            raise
        return group


def enter_subtree_if_asked(limits: GroupLimits, log: Log) -> Subtree | None:
    """The daemon's control groups, if its limits ask for some and it may have them."""
    if not limits:
        return None
    subtree, why = None, "its group lacks the controllers"
    try:
        subtree = enter_subtree(limits)
        log.info("control groups", folder=str(subtree.folder), hold=",".join(subtree.controllers))
    except NotDelegated as error:
        why = str(error)
    lacking = limits.controllers - (subtree.controllers if subtree else frozenset())
    if "memory" in lacking:
        log.info("memory is looked at ten times a second, not held by the kernel", why=why)
    if "pids" in lacking:
        log.warning("--max-pids has no effect", why=why)
    return subtree


def enter_subtree(limits: GroupLimits) -> Subtree:
    """Moves this process into a leaf of what is delegated to it. Raises NotDelegated."""
    folder = delegated_folder()
    _remove_stale(folder)
    leaf = folder / f"{_PREFIX}{os.getpid()}"
    try:
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")
    except OSError as error:
        raise NotDelegated(f"{folder}: {error.strerror}") from error
    found = limits.controllers & available_controllers(folder)
    try:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in found))
    except OSError as error:
        with suppress(OSError):
            (folder / "cgroup.procs").write_text("0")
            leaf.rmdir()
        raise NotDelegated(f"{folder}/cgroup.subtree_control: {error.strerror}") from error
    return Subtree(folder, found, limits)


def delegated_folder() -> Path:
    """The folder of this process's group, if it is its own to divide. Raises NotDelegated."""
    folder = _own_folder()
    needed = (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control")
    if not all(os.access(path, os.W_OK) for path in needed):
        raise NotDelegated(f"{folder} is not this user's to divide")
    # To root everything is writable: what tells is that nobody else was put there.
    if others := _numbers(folder / "cgroup.procs") - {os.getpid()}:
        raise NotDelegated(f"{folder} has other processes, {min(others)} for one")
    return folder


def available_controllers(folder: Path) -> frozenset[str]:
    """What the group may hand on to those below."""
    try:
        return frozenset((folder / "cgroup.controllers").read_text().split())
    except OSError:
        return frozenset()


def counters(path: Path) -> dict[str, int]:
    """Those in a file of lines `name number`; none if it can't be read."""
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
        return {name: int(number) for name, number in pairs}
    except (OSError, ValueError):
        return {}


def own_group(controller: str = "") -> Path | None:
    """The folder of this process's group: version 2's, or that of a controller of version 1."""
    for line in _lines("/proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return _mounted(path, controller)
    return None


def _own_folder() -> Path:
    folder = own_group()
    if folder is None or not folder.is_dir():
        raise NotDelegated("there is no cgroup2 file system here")
    return folder


def _mounted(path: str, controller: str) -> Path | None:
    """Where this path of the tree is to be seen."""
    for line in _lines("/proc/self/mountinfo"):
        mount, _, kind = line.partition(" - ")
        root, point = mount.split()[3:5]
        is_it = kind.startswith("cgroup2 ")
        if controller:
            is_it = kind.startswith("cgroup ") and controller in kind.split()[2].split(",")
        if is_it and (path + "/").startswith(root.rstrip("/") + "/"):
            return Path(point) / path[len(root) :].lstrip("/")
    return None


def _remove_stale(folder: Path) -> None:
    """Removes the groups of earlier daemons here, and kills what has escaped from their jobs.

    They are those whose master's leaf can be removed: it is empty, so that the master is dead.
    """
    for leaf in folder.glob(f"{_PREFIX}*"):
        if "-" in leaf.name.removeprefix(_PREFIX):
            continue
        with suppress(OSError):
            leaf.rmdir()
            for place in folder.glob(f"{leaf.name}-*"):
                _remove(place)


def _remove(group: Path) -> None:
    """Kills what is left in a group, and removes it."""
    with suppress(OSError):
        (group / "cgroup.kill").write_text("1")
        _await_end(group)
    with suppress(OSError):
        group.rmdir()  # or who comes next does


def _await_end(group: Path) -> None:
    """Returns once what was killed is gone, or after a short while."""
    with (group / "cgroup.events").open() as events:
        changes = select.poll()
        changes.register(events, select.POLLPRI)
        while "populated 1" in events.read() and changes.poll(_DEATH_MS):
            events.seek(0)


def _numbers(path: Path) -> set[int]:
    try:
        return set(map(int, path.read_text().split()))
    except (OSError, ValueError):
        return set()


def _lines(path: str) -> Iterable[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return ()
