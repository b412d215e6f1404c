"""A host without processes, descriptors or room on its disks, and whose clock jumps."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from resource import RLIMIT_NOFILE, prlimit

from tests.torture import small_disk
from tests.torture.arena import Arena
from tests.torture.faults import Fault, Injected, Lane, Missed, Target

HOUR_S = 3600


def no_descriptors_for_master(target: Target) -> Injected:
    return _limit_descriptors(target.keeper.pid, "master")


def no_descriptors_for_zygote(target: Target) -> Injected:
    pid = target.keeper.pid
    return _limit_descriptors(target.arena.system.zygote(pid) if pid else None, "zygote")


def _limit_descriptors(pid: int | None, level: str) -> Injected:
    """It may open no descriptor more than it has open now."""
    if pid is None:
        raise Missed("no process")
    try:
        before = prlimit(pid, RLIMIT_NOFILE)
        highest = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) < 800)
        prlimit(pid, RLIMIT_NOFILE, (highest + 1, before[1]))
    except (ProcessLookupError, FileNotFoundError) as error:
        raise Missed("it is gone") from error

    def heal() -> None:
        with suppress(ProcessLookupError):
            prlimit(pid, RLIMIT_NOFILE, before)

    return Injected(level, heal, pid)


def no_forks(target: Target) -> Injected:
    cage = target.keeper.cage
    if target.keeper.pid is None:
        raise Missed("no master")
    cage.close()
    return Injected("zygote", cage.open)


def full_log_disk(target: Target) -> Injected:
    folder = target.keeper.log_folder()
    small_disk.fill(folder)
    return Injected("job", lambda: small_disk.clear(folder, small_disk.LOG_SIZE))


def full_data_disk(target: Target) -> Injected:
    """The append-only file can't grow: the server gives up, as it must with appendfsync always."""
    server = target.arena.server
    small_disk.fill(server.data)

    def heal() -> None:
        small_disk.clear(server.data, small_disk.DATA_SIZE)
        if server.is_running:
            time.sleep(0.2)  # it may just be about to end
        if not server.is_running:
            server.start()

    return Injected("redis", heal)


def clock_forward_and_back(target: Target) -> Injected:
    server = target.arena.server
    server.turn_clock(HOUR_S)
    return Injected("redis", lambda: server.turn_clock(0))


def _lacks_cage(arena: Arena) -> str:
    return next((keeper.cage.lacks for keeper in arena.keepers), "")


def _lacks_mounts(arena: Arena) -> str:
    return arena.lacks_mounts


def _lacks_clock(arena: Arena) -> str:
    if arena.server.faketime is None:
        return "libfaketime, or a server without jemalloc, is not installed"
    return ""


_RQD = ("rqd",)
FAULTS = (
    Fault(
        *("EMFILE in a master", "host", Lane.MASTER, no_descriptors_for_master),
        hold_s=(1.0, 3.0),
        systems=_RQD,
    ),
    Fault(
        *("EMFILE in a zygote", "host", Lane.MASTER, no_descriptors_for_zygote),
        hold_s=(1.0, 3.0),
        systems=_RQD,
    ),
    Fault(
        *("fork fails with EAGAIN", "host", Lane.MASTER, no_forks),
        hold_s=(1.0, 3.0),
        lacks=_lacks_cage,
    ),
    Fault(
        *("ENOSPC on the log's disk", "host", Lane.MASTER, full_log_disk),
        hold_s=(1.0, 3.0),
        lacks=_lacks_mounts,
    ),
    Fault(
        *("ENOSPC on the data's disk", "host", Lane.REDIS, full_data_disk),
        hold_s=(0.5, 1.5),
        often=2,
        lacks=_lacks_mounts,
    ),
    Fault(
        *("wall clock an hour forward and back", "host", Lane.REDIS, clock_forward_and_back),
        hold_s=(3.0, 6.0),
        often=1,
        lacks=_lacks_clock,
    ),
)
