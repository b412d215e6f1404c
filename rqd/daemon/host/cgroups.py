"""Control groups: the kernel's own limits on jobs, and its kills for want of memory.

The limits need version 2, and a part of the group tree that is delegated to the daemon:

    DELEGATED                       by systemd's Delegate=yes, say; no process may stay here
    ├─ rqd-MASTER                   master, zygotes, an embedded server
    ├─ rqd-MASTER-ZYGOTE-1          the slot of worker 1, whose children join it by themselves
    └─ ..

A slot's group lives as long as its zygote. A group for each job would leave as many dying groups in
the kernel, each for as long as a page of it is cached.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from rqd.daemon.log.log import Log
from rqd.model.outcome import Crashed, Outcome, OutOfMemory, Report
from rqd.model.resources import ResourceLimits

_DEATH_MS = 50
_PREFIX = "rqd-"
# A process of many gigabytes takes its time to die, and to be reported.
_WINDOW_S = 5.0
# The kernel counts more than the job's own memory: page tables, sockets, dirty files.
_ROOM_BYTES, _ROOM_SHARE = 16 * 1024 * 1024, 32


class NotDelegated(Exception):
    """No part of the group tree belongs to this daemon; the text says why."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The limits for each job: memory in bytes, processes; None for no limit."""

    memory_bytes: int | None = None
    processes: int | None = None

    def __bool__(self) -> bool:
        return bool(self.controllers)

    @property
    def controllers(self) -> frozenset[str]:
        """The controllers that these limits need."""
        wanted = {"memory": self.memory_bytes, "pids": self.processes}
        return frozenset(name for name, limit in wanted.items() if limit is not None)


class OomKill(Enum):
    """The place where memory ran out before a kill: at the group's own limit, or elsewhere."""

    AT_LIMIT = "at the limit"
    ELSEWHERE = "elsewhere"


class SlotGroup:
    """The group of a worker's slot in a zygote."""

    def __init__(self, folder: Path, controllers: frozenset[str]) -> None:
        """Makes the group. Raises OSError."""
        self.folder = folder
        self._has_memory = "memory" in controllers
        self._limit_bytes: int | None = None
        self._counted: dict[str, int] = {}
        folder.mkdir()
        if self._has_memory:
            (folder / "memory.oom.group").write_text("1")  # all of a job, or none

    def limit_processes(self, most: int) -> None:
        """Sets the largest number of processes. Raises OSError."""
        (self.folder / "pids.max").write_text(str(most))

    def limit_memory(self, limit_bytes: int | None) -> None:
        """Sets the memory limit, None for no limit. Raises OSError."""
        if self._has_memory and limit_bytes != self._limit_bytes:
            room_bytes = _ROOM_BYTES + (limit_bytes or 0) // _ROOM_SHARE
            most = "max" if limit_bytes is None else str(limit_bytes + room_bytes)
            (self.folder / "memory.max").write_text(most)
            self._limit_bytes = limit_bytes

    def open(self) -> list[int]:
        """Returns two descriptors: to join the group, and to kill all in it. The caller closes
        them.

        Raises OSError.
        """
        join_fd = self._open("cgroup.procs")
        try:
            return [join_fd, self._open("cgroup.kill")]
        except OSError:
            os.close(join_fd)
            raise

    def take_oom_kill(self) -> OomKill | None:
        """Says why the kernel killed in this group since the last call; None if it has not."""
        before, now = self._counted, counters(self.folder / "memory.events")
        self._counted = now
        if now.get("oom_kill", 0) <= before.get("oom_kill", 0):
            return None
        # The `oom` counter of a group rises only for the group's own limit.
        is_own = now.get("oom", 0) > before.get("oom", 0)
        return OomKill.AT_LIMIT if is_own else OomKill.ELSEWHERE

    def remove(self) -> None:
        """Kills all processes left in the group, and removes it."""
        _remove(self.folder)

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC)


class Subtree:
    """The delegated part of the tree, with this process in a leaf of its own."""

    def __init__(self, folder: Path, controllers: frozenset[str], limits: GroupLimits) -> None:
        self.folder = folder
        self.controllers = controllers
        self.limits = limits  # of slots that are made from now on

    def make_slot(self, zygote: int, worker: int) -> SlotGroup:
        """Makes a group for this worker's children. Raises OSError."""
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


class OomCounter:
    """Counts the processes that the kernel has killed for their memory.

    `is_own`: counts only kills in the daemon's own control group, which holds its jobs where it is
    a unit or a container; else counts all kills on the host.
    """

    def __init__(self, source: tuple[Path, bool] | None = None) -> None:
        self._path, self.is_own = source or _own_source()
        self._seen: deque[tuple[float, int]] = deque()

    def sample(self, now: float) -> None:
        """Samples the counter; call it now and then while jobs run."""
        self._seen.append((now, counters(self._path).get("oom_kill", 0)))
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()

    def has_risen(self, now: float) -> bool:
        """True if the counter has risen in the last seconds."""
        self.sample(now)
        return self._seen[-1][1] > self._seen[0][1]


class LimitedAttempt(Protocol):
    """A job's attempt with its limits, and the master's own reason to kill it, if it had any."""

    @property
    def limits(self) -> ResourceLimits: ...
    @property
    def verdict(self) -> Outcome | None: ...


def explain(
    attempt: LimitedAttempt,
    report: Report,
    group: SlotGroup | None,
    counter: OomCounter,
    now: float,
) -> Report:
    """Returns the report of a death, corrected if the kernel killed for want of memory.

    `group` is the group of the worker's slot, None where it has none.
    """
    killed = group.take_oom_kill() if group is not None else None
    outcome, limit_bytes = report.outcome, attempt.limits.memory_bytes
    if not isinstance(outcome, Crashed) or outcome.signal != signal.SIGKILL or attempt.verdict:
        return report
    used_bytes = report.usage.peak_memory_bytes or 0
    if killed is OomKill.AT_LIMIT and limit_bytes is not None:
        return replace(report, outcome=OutOfMemory(max(used_bytes, limit_bytes), limit_bytes, True))
    if killed is None and not counter.has_risen(now):
        return report
    if killed is not None or counter.is_own:
        return replace(report, outcome=OutOfMemory(used_bytes, None, True))
    note = "perhaps by the kernel: it has just killed for want of memory on this host"
    return replace(report, outcome=replace(outcome, note=note))


def enter_subtree_if_asked(limits: GroupLimits, log: Log) -> Subtree | None:
    """Returns the daemon's control groups; None if its limits need none, or none are delegated."""
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
    """Moves this process into a leaf of its delegated group. Raises NotDelegated."""
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
    """Returns the folder of this process's group, if it may divide it. Raises NotDelegated."""
    folder = own_group()
    if folder is None or not folder.is_dir():
        raise NotDelegated("there is no cgroup2 file system here")
    needed = (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control")
    if not all(os.access(path, os.W_OK) for path in needed):
        raise NotDelegated(f"{folder} is not this user's to divide")
    # Root may write everywhere: the absence of other processes is the sign of a delegation.
    pids = {int(pid) for pid in _text(folder / "cgroup.procs").split()}
    if others := pids - {os.getpid()}:
        raise NotDelegated(f"{folder} has other processes, {min(others)} for one")
    return folder


def available_controllers(folder: Path) -> frozenset[str]:
    """Returns the controllers that the group may pass on to groups below."""
    return frozenset(_text(folder / "cgroup.controllers").split())


def counters(path: Path) -> dict[str, int]:
    """Reads the counters in a file of lines `name number`; empty if it can't be read."""
    try:
        return {name: int(number) for name, number in map(str.split, _text(path).splitlines())}
    except ValueError:
        return {}


def own_group(controller: str = "") -> Path | None:
    """Returns the folder of this process's group: in version 2, or of a controller in version 1.

    None if there is no such group.
    """
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return _mounted(path, controller)
    return None


def _mounted(path: str, controller: str) -> Path | None:
    """Returns the folder where this path of the tree is mounted; None if it is mounted nowhere."""
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        mount, _, kind = line.partition(" - ")
        root, point = mount.split()[3:5]
        is_it = kind.startswith("cgroup2 ")
        if controller:
            is_it = kind.startswith("cgroup ") and controller in kind.split()[2].split(",")
        if is_it and (path + "/").startswith(root.rstrip("/") + "/"):
            return Path(point) / path[len(root) :].lstrip("/")
    return None


def _remove_stale(folder: Path) -> None:
    """Removes the groups of earlier daemons here, and kills processes that escaped from their jobs.

    A master is dead if its leaf is empty, and so can be removed.
    """
    for leaf in folder.glob(f"{_PREFIX}*"):
        if "-" in leaf.name.removeprefix(_PREFIX):
            continue
        with suppress(OSError):
            leaf.rmdir()
            for place in folder.glob(f"{leaf.name}-*"):
                _remove(place)


def _remove(group: Path) -> None:
    """Kills the processes left in a group, and removes it."""
    with suppress(OSError):
        (group / "cgroup.kill").write_text("1")
        _await_end(group)
    with suppress(OSError):
        group.rmdir()  # else the next daemon removes it


def _await_end(group: Path) -> None:
    """Returns once the killed processes are gone, or after a short while."""
    with (group / "cgroup.events").open() as events:
        changes = select.poll()
        changes.register(events, select.POLLPRI)
        while "populated 1" in events.read() and changes.poll(_DEATH_MS):
            events.seek(0)


def _text(path: Path) -> str:
    """Reads a file of the kernel's; empty if it can't be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _own_source() -> tuple[Path, bool]:
    if (group := own_group()) and "oom_kill" in counters(group / "memory.events"):
        return group / "memory.events", True
    if (group := own_group("memory")) and "oom_kill" in counters(group / "memory.oom_control"):
        return group / "memory.oom_control", True
    return Path("/proc/vmstat"), False
