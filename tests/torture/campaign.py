"""The story of a campaign: start all, inject faults by the seed's plan, heal, drain, take stock."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import redis

from tests.torture import small_disk
from tests.torture.arena import Arena, wait_for_ready
from tests.torture.faults import Catalogue, Fault, Injected, Lane, Missed, Target, catalogue
from tests.torture.faults.host import HOUR_S, clock_forward_and_back
from tests.torture.history import History
from tests.torture.masters import Keeper, end_processes_in
from tests.torture.plan import Planned, plan
from tests.torture.server import Server
from tests.torture.systems import system_named

# What misses, as Redis or a process is away at the moment, is done a little later.
_TRIES, _AGAIN_S = 3, 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a campaign is run with. `out` is where its histories go; it is empty, or made. `gaps`:
    how much of the usual time lies between faults.
    """

    seed: int
    groups: tuple[str, ...]
    minutes: float
    jobs_a_second: float
    out: Path
    system: str = "rqd"
    gaps: float = 1.0


def run(settings: Settings) -> None:
    """Runs a campaign; its histories, and Redis' final state, are in `out` afterwards."""
    lacks_mounts = small_disk.enter_own_mounts()
    faults = catalogue()
    with _arena(settings, lacks_mounts) as arena:
        arena.start(settings.jobs_a_second, {})
        able = _able(arena, settings, faults)
        began = time.time()
        arena.history.note("campaign", seed=settings.seed, system=settings.system)
        first_run = arena.system.begin_timetable(arena.url)
        _inject(arena, able, settings)
        arena.stop_producers()
        arena.history.note("by clock", runs=arena.system.end_timetable(arena.url, first_run))
        drained = _drain(arena, any(fault.inject is clock_forward_and_back for fault in able))
        left = [] if drained else _left(arena)
        seconds = round(time.time() - began, 1)
        arena.history.note("drained", done=drained, left=left, seconds=seconds)
        arena.stop_masters()
        _take_stock(arena)


@contextmanager
def _arena(settings: Settings, lacks_mounts: str) -> Iterator[Arena]:
    settings.out.mkdir(parents=True, exist_ok=True)
    # /tmp: a unix socket's path is limited to 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rqd-t-", dir="/tmp"))
    data = folder / "data"
    system = system_named(settings.system)
    if lacks_mounts:
        data.mkdir()
    else:
        small_disk.mount_small(data, small_disk.DATA_SIZE)
        for spec in system.masters:
            small_disk.mount_small(settings.out / f"logs-{spec.name}", small_disk.LOG_SIZE)
    arena = Arena(system, settings.seed, settings.out, folder, Server(folder, data), lacks_mounts)
    try:
        yield arena
    finally:
        arena.over.set()
        for keeper in arena.keepers:
            with suppress(OSError):
                keeper.stop()
        for left in (settings.out / "masters").glob("*"):
            end_processes_in(left)
        arena.clean_up()
        small_disk.unmount(data)
        shutil.rmtree(folder, ignore_errors=True)


def _able(arena: Arena, settings: Settings, known: Catalogue) -> list[Fault]:
    """The faults that can be injected here; of the others, the history says why not."""
    able = []
    for fault in known.faults:
        if fault.group not in settings.groups:
            continue
        why = fault.lacks(arena)
        if settings.system not in fault.systems:
            continue
        if why:
            arena.history.note("not injected", name=fault.name, group=fault.group, why=why)
        else:
            able.append(fault)
    for one in known.not_injected:
        if one.group in settings.groups:
            arena.history.note("not injected", name=one.name, group=one.group, why=one.why)
    return able


def _inject(arena: Arena, able: list[Fault], settings: Settings) -> None:
    keepers = arena.keepers
    lanes = [
        threading.Thread(
            target=_run_lane,
            args=(
                arena,
                keeper,
                plan(able, Lane.MASTER, arena.seed, n, len(keepers)),
                settings.gaps,
            ),
        )
        for n, keeper in enumerate(keepers)
    ]
    for lane in (Lane.REDIS, Lane.JOBS, Lane.OPERATOR):
        steps = plan(able, lane, arena.seed)
        lanes.append(threading.Thread(target=_run_lane, args=(arena, None, steps, settings.gaps)))
    for thread in lanes:
        thread.start()
    arena.over.wait(settings.minutes * 60)
    arena.over.set()
    for thread in lanes:
        thread.join()


def _run_lane(arena: Arena, keeper: Keeper | None, steps: Iterator[Planned], gaps: float) -> None:
    """One fault after the other: on one master, which is ready before each, or on all the rest."""
    for step in steps:
        arena.pause(step.gap_s * gaps)
        if keeper is not None:
            wait_for_ready(keeper, arena)
        if arena.over.is_set():
            return
        rng = Random(step.seed)
        target = Target(arena, keeper or rng.choice(arena.keepers), rng)
        for _ in range(_TRIES):
            if _perform(arena, step.fault, target) or arena.over.is_set():
                break
            arena.pause(_AGAIN_S)


def _perform(arena: Arena, fault: Fault, target: Target) -> bool:
    """False if there was nothing to do it to."""
    in_flight, begin = arena.in_flight, time.time()
    is_on_master = fault.lane is Lane.MASTER
    master = target.keeper.incarnation
    named = {"name": fault.name, "group": fault.group}
    try:
        injected: Injected = fault.inject(target)
        try:
            arena.pause(target.rng.uniform(*fault.hold_s))
        finally:
            injected.heal()
    except Missed as why:
        arena.history.note("missed", **named, why=str(why))
        return False
    except Exception as error:  # noqa: BLE001 - the other faults go on, and the verdict tells of it
        arena.history.note("breach", what=f"{fault.name}: {type(error).__name__}: {error}")
        return True
    arena.history.note(
        "fault",
        **named,
        level=injected.level,
        master=master if is_on_master or injected.level == "master" else "",
        pid=injected.pid,
        jobs=injected.jobs,
        begin=begin,
        end=time.time(),
        in_flight=in_flight,
        note=injected.note,
    )
    return True


def _drain(arena: Arena, turns_clock: bool) -> bool:
    """Lets the masters come to the end of all work; False if they get no further."""
    if turns_clock:
        # What was scheduled while the clock was forward is due then.
        arena.server.turn_clock(HOUR_S + 60)
    client = arena.server.client(2.0)
    # Every new low is progress, however slow the machine.
    fewest, deadline = sys.maxsize, time.monotonic() + arena.system.drain_s
    while time.monotonic() < deadline:
        with suppress(redis.RedisError):
            if (waiting := arena.system.waiting(client)) == 0:
                return True
            if waiting < fewest:
                fewest, deadline = waiting, time.monotonic() + arena.system.drain_s
        time.sleep(0.1)
    return False


def _left(arena: Arena) -> list[str]:
    try:
        return arena.system.left(arena.server.client(2.0))
    except redis.RedisError as error:
        return [f"unknown: {error}"]


def _take_stock(arena: Arena) -> None:
    stock = History(arena.out / "final.jsonl")
    stock.note_all(arena.system.final_state(arena.server.client(30.0)))
    for log in arena.out.glob("*/m*.log"):
        refused = arena.system.refusals(log.read_text(errors="replace"))
        if refused:
            stock.note("refused", master=log.stem, count=refused)
    stock.close()
    if not arena.lacks_mounts:
        # The small disks vanish with this process: the logs shall not.
        for folder in arena.out.glob("logs-*"):
            shutil.copytree(folder, arena.out / "logs", dirs_exist_ok=True)
