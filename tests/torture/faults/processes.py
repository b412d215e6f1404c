"""Processes killed, stopped, hung and signalled."""

from __future__ import annotations

import os
import signal
import time

import psutil

from tests.torture.faults import Fault, Injected, Lane, Missed, NotYet, Target
from tests.torture.launch import title_of

# A lease lasts 15 s.
_PAST_THE_LEASE_S = (16.0, 18.5)
_GRANDCHILD_S = 10.0
_HARMLESS = (
    *(signal.SIGHUP, signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT),
    *(signal.SIGTTIN, signal.SIGTTOU),
)
# CPython's faulthandler gives a process an alternate stack that has room for four handlers at a
# time: a fifth different signal in the same instant, and the kernel ends it with SIGSEGV.
_KINDS_AT_ONCE = 3
_FOR_CHILDREN = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def _master(target: Target) -> int:
    pid = target.keeper.pid
    if pid is None:
        raise Missed("no master")
    return pid


def _zygote(target: Target) -> int:
    pid = target.arena.system.zygote(_master(target))
    if pid is None:
        raise Missed("no zygote")
    return pid


def _child(target: Target) -> int:
    """A child, rather one that runs a job."""
    children = target.arena.system.children(_master(target))
    busy = [pid for pid in children if " since " in title_of(pid)]
    if not children:
        raise Missed("no child")
    return target.rng.choice(busy or children)


def _grandchild(target: Target) -> int:
    """Few jobs have one: it waits for the next."""
    give_up_at = time.monotonic() + _GRANDCHILD_S
    while not (found := _grandchildren(target)):
        if target.arena.over.is_set() or time.monotonic() >= give_up_at:
            raise Missed("no grandchild")
        target.arena.pause(0.05)
    return target.rng.choice(found)


def _grandchildren(target: Target) -> list[int]:
    found: list[int] = []
    for child in target.arena.system.children(_master(target)):
        try:
            found += [process.pid for process in psutil.Process(child).children()]
        except psutil.NoSuchProcess:
            continue
    return found


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError as error:
        raise Missed("it is gone") from error


def _resume(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def kill_master(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGKILL)
    return Injected("master", pid=pid)


def kill_zygote(target: Target) -> Injected:
    pid = _zygote(target)
    _send(pid, signal.SIGKILL)
    return Injected("zygote", pid=pid)


def kill_child(target: Target) -> Injected:
    pid = _child(target)
    _send(pid, signal.SIGKILL)
    return Injected("child", pid=pid)


def kill_grandchild(target: Target) -> Injected:
    pid = _grandchild(target)
    _send(pid, signal.SIGKILL)
    return Injected("job", pid=pid)


def stop_master(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGSTOP)
    return Injected("master", lambda: _resume(pid), pid)


def stop_zygote(target: Target) -> Injected:
    pid = _zygote(target)
    _send(pid, signal.SIGSTOP)
    return Injected("zygote", lambda: _resume(pid), pid)


def stop_child(target: Target) -> Injected:
    pid = _child(target)
    _send(pid, signal.SIGSTOP)
    return Injected("child", lambda: _resume(pid), pid)


def hang_before_ready(target: Target) -> Injected:
    """New children of this master hang right after their fork."""
    flag = target.keeper.hang_flag
    pid = _zygote(target)
    flag.touch()
    return Injected("zygote", lambda: flag.unlink(missing_ok=True), pid)


def storm(target: Target) -> Injected:
    """A hundred signals that ask nothing, and workers more and fewer, to all of a master's."""
    rng, system = target.rng, target.arena.system
    pid = _master(target)
    for _ in range(100):
        _send(pid, rng.choice(_HARMLESS))
    for _ in range(20):
        _send(pid, signal.SIGTTIN)
        _send(pid, signal.SIGTTOU)
    kinds = rng.sample(_FOR_CHILDREN, _KINDS_AT_ONCE)
    others = [found for found in (system.zygote(pid), *system.children(pid)) if found]
    for _ in range(50):
        if others:
            try:
                _send(rng.choice(others), rng.choice(kinds))
            except Missed:
                continue
    return Injected("master", pid=pid)


def terminate(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGTERM)
    return Injected("master", pid=pid)


def quit_at_once(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGQUIT)
    return Injected("master", pid=pid)


def kill_jobs(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGUSR1)
    return Injected("master", pid=pid)


def pause(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, target.rng.choice((signal.SIGUSR2, signal.SIGTSTP)))
    return Injected("master", lambda: _resume(pid), pid)


def reload(target: Target) -> Injected:
    pid = _master(target)
    _send(pid, signal.SIGHUP)
    return Injected("job", pid=pid)


def reload_broken(target: Target) -> Injected:
    """For as long as it is held the jobs' module can't be imported."""
    flag = target.keeper.broken_flag
    pid = _master(target)
    flag.touch()
    try:
        _send(pid, signal.SIGHUP)
    except Missed:
        flag.unlink()
        raise
    return Injected("job", lambda: flag.unlink(missing_ok=True), pid)


_RQD = ("rqd",)
FAULTS = (
    Fault("SIGKILL of a master", "processes", Lane.MASTER, kill_master, often=2),
    Fault("SIGKILL of a zygote", "processes", Lane.MASTER, kill_zygote),
    Fault("SIGKILL of a child", "processes", Lane.MASTER, kill_child, often=8),
    Fault("SIGKILL of a grandchild", "processes", Lane.MASTER, kill_grandchild, often=5),
    Fault(
        *("SIGSTOP of a master past the lease", "processes", Lane.MASTER, stop_master),
        hold_s=_PAST_THE_LEASE_S,
        often=1,
    ),
    Fault(
        *("SIGSTOP of a zygote past the lease", "processes", Lane.MASTER, stop_zygote),
        hold_s=_PAST_THE_LEASE_S,
        often=1,
    ),
    Fault(
        *("SIGSTOP of a child past the lease", "processes", Lane.MASTER, stop_child),
        hold_s=_PAST_THE_LEASE_S,
        often=1,
    ),
    Fault(
        *("children hung before ready", "processes", Lane.MASTER, hang_before_ready),
        hold_s=(1.0, 3.0),
        systems=_RQD,
    ),
    Fault("signal storm", "processes", Lane.MASTER, storm, systems=_RQD),
    Fault("SIGTERM of a master", "processes", Lane.MASTER, terminate),
    Fault("SIGQUIT of a master", "processes", Lane.MASTER, quit_at_once, systems=_RQD),
    Fault("SIGUSR1 of a master", "processes", Lane.MASTER, kill_jobs, systems=_RQD),
    Fault(
        *("pause of a master", "processes", Lane.MASTER, pause),
        hold_s=(0.5, 3.0),
        systems=_RQD,
    ),
    Fault("reload", "processes", Lane.MASTER, reload, systems=_RQD),
    Fault(
        *("reload to a broken deploy", "processes", Lane.MASTER, reload_broken),
        hold_s=(0.5, 1.0),
        systems=_RQD,
    ),
)
NOT_INJECTED = (NotYet("a whole host cut off", "processes", "tests/topology does that"),)
