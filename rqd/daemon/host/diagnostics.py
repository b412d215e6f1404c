"""Checks whether host and application suit a forking daemon, for `rqd doctor`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator, Sequence

from rqd.daemon.config import Config, files_needed
from rqd.daemon.host.cgroups import (
    GroupLimits,
    NotDelegated,
    OomCounter,
    available_controllers,
    delegated_folder,
)
from rqd.daemon.host.process_limits import check_kernel
from rqd.daemon.instance import lock_folder, lock_folder_variable
from rqd.model.diagnosis import Finding, Verdict, judged
from rqd.model.errors import ConfigurationError
from rqd.model.words import counted

_IMPORT_LIMIT_S = 120.0
# The daemon needs so long after its grace, to kill and to put jobs back.
_STOP_RESERVE_S = 10
_UNIT_LIMIT_S = 5.0


def examine_host(config: Config) -> Iterator[Finding]:
    """Checks the kernel, the limit of open files, the processors and the folder of locks."""
    yield _judge_kernel()
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files_needed(config.workers)
    seen = "unlimited" if files == resource.RLIM_INFINITY else f"{files:,}"
    if files == resource.RLIM_INFINITY or files >= needed:
        yield Finding("open files", Verdict.OK, seen)
    else:
        workers = counted(config.workers, "worker")
        advice = f"{workers} need {needed:,}: ulimit -Hn, or LimitNOFILE= of the unit"
        yield Finding("open files", Verdict.FAILED, seen, advice)
    cores = os.cpu_count() or 1
    yield Finding("processors", Verdict.OK, f"{cores}, for {config.workers} workers")
    yield _judge_locks()


def _judge_kernel() -> Finding:
    try:
        check_kernel()
    except ConfigurationError as error:
        seen, _, advice = str(error).partition(": ")
        return Finding("kernel", Verdict.FAILED, seen, advice)
    return Finding("kernel", Verdict.OK, f"Linux {os.uname().release}, lets a daemon work")


def _judge_locks() -> Finding:
    what, advice = "folder of locks", "without locks a killed master's jobs wait for their leases: "
    try:
        folder = lock_folder()
    except ConfigurationError as error:
        seen, _, instead = str(error).partition(": ")
        return Finding(what, Verdict.WARNING, seen, advice + instead)
    # Not by `Path.exists`, which raises for a path in a folder that is closed to this user.
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    advice += f"make it writable, or set {lock_folder_variable()}"
    return judged(what, str(folder), fine=os.access(nearest, os.W_OK), advice=advice)


def examine_limits(config: Config) -> Iterator[Finding]:
    """Says how limits of jobs are held: by the kernel's control groups, or by the master's samples.

    The kernel's groups count only if they are delegated to a daemon that is started as this process
    was.
    """
    limits = GroupLimits(config.limits.memory_bytes, config.max_pids)
    source = "its own control group" if OomCounter().is_own else "the whole host"
    yield Finding("kernel's OOM kills", Verdict.OK, f"read from the counter of {source}")
    if not limits:
        yield Finding("control groups", Verdict.OK, "not used without --max-memory or --max-pids")
        return
    try:
        folder = delegated_folder()
        lacking, why = limits.controllers - available_controllers(folder), f"in {folder}"
    except NotDelegated as error:
        lacking, why = limits.controllers, str(error)
    held = ", ".join(sorted(limits.controllers - lacking))
    if held:
        yield Finding("control groups", Verdict.OK, f"{held}: held by the kernel {why}")
    if lacking:
        seen = f"{', '.join(sorted(lacking))}: not held by the kernel, {why}"
        advice = (
            "memory is looked at ten times a second instead, and --max-pids has no effect:"
            " Delegate=yes and ProtectControlGroups=no in the unit"
        )
        yield Finding("control groups", Verdict.WARNING, seen, advice)


def examine_application(config: Config, path: Sequence[str]) -> Iterator[Finding]:
    """Checks the modules of `--preload`, in a process that imports them and ends."""
    program = (
        f"import sys; sys.path[:] = {list(path)!r};"
        f" from rqd.daemon.zygote.fork_safety import report_imports;"
        f" report_imports({list(config.preload)!r})"
    )
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_IMPORT_LIMIT_S,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        advice = "an import has to come to its end: the daemon waits for it before its first job"
        seen = f"not imported after {_IMPORT_LIMIT_S:g} s"
        yield Finding("preload", Verdict.FAILED, seen, advice)
        return
    if ended.returncode:
        why = ended.stderr.strip().rpartition("\n")[2] or f"exit status {ended.returncode}"
        advice = "rqd start would end with this: --path says where modules are looked for"
        yield Finding("preload", Verdict.FAILED, why, advice)
        return
    report = ended.stdout.rpartition("\n")[2]
    if not report.startswith("["):
        yield Finding("preload", Verdict.FAILED, "it ends the process", "an import must not exit")
        return
    for finding in literal_eval(report):
        yield from _judge_module(*finding)


def examine_unit(config: Config, unit: str) -> Iterator[Finding]:
    """Checks a systemd unit for settings that fight the daemon's own; nothing without a unit."""
    wanted = ("LoadState", "TimeoutStopUSec", "KillMode", "NotifyAccess", "Type", "Delegate")
    try:
        shown = subprocess.run(
            ["systemctl", "show", unit, *(f"--property={name}" for name in wanted)],
            capture_output=True,
            text=True,
            timeout=_UNIT_LIMIT_S,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return
    settings = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if settings.get("LoadState") == "loaded":
        yield from judge_unit(unit, settings, config.grace_s)
        if GroupLimits(config.limits.memory_bytes, config.max_pids):
            yield judge_delegation(unit, settings)


def judge_unit(unit: str, settings: dict[str, str], grace_s: float) -> Iterator[Finding]:
    """Compares the output of `systemctl show` for a unit with the daemon's grace."""
    stop = settings.get("TimeoutStopUSec", "")
    needed_s = grace_s + _STOP_RESERVE_S
    # While jobs end, the daemon asks for more time, if systemd listens to it.
    is_heard = settings.get("NotifyAccess", "none") != "none"
    fine = is_heard or read_timespan_s(stop) >= needed_s
    advice = (
        f"systemd would kill jobs before --grace {grace_s:g} is over, as it does not hear the"
        f" daemon ask for more time: NotifyAccess=main, or TimeoutStopSec={needed_s:g}"
    )
    yield judged(f"{unit}: TimeoutStopSec", stop, fine=fine, advice=advice)
    mode = settings.get("KillMode", "")
    advice = "SIGTERM is for the master alone: KillMode=mixed"
    yield judged(f"{unit}: KillMode", mode, fine=mode == "mixed", advice=advice)
    kind = settings.get("Type", "")
    advice = "systemd can't know when the daemon is ready: Type=notify"
    yield judged(f"{unit}: Type", kind, fine=kind.startswith("notify"), advice=advice)


def judge_delegation(unit: str, settings: dict[str, str]) -> Finding:
    """Checks whether the kernel may hold this unit's jobs to their limits."""
    given = settings.get("Delegate") or "no"
    advice = "the kernel can't hold jobs to their limits: Delegate=yes, ProtectControlGroups=no"
    return judged(f"{unit}: Delegate", given, fine=given == "yes", advice=advice)


def read_timespan_s(text: str) -> float:
    """Returns the seconds of systemctl's `1min 30s`; infinity for `infinity`, 0 for other text."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
    if text == "infinity":
        return float("inf")
    total = 0.0
    for part in text.split():
        number = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        try:
            total += float(number) * units[part[len(number) :]]
        except (KeyError, ValueError):
            return 0.0
    return total


def _judge_module(module: str, seconds: float, threads: int, connections: int) -> Iterator[Finding]:
    what = f"preload {module}"
    if threads:
        advice = "threads do not survive a fork, their locks do: start them in the job"
        yield Finding(what, Verdict.WARNING, f"starts {counted(threads, 'thread')}", advice)
    if connections:
        advice = "children would share them, and mix their answers: connect in the job"
        yield Finding(what, Verdict.WARNING, f"opens {counted(connections, 'connection')}", advice)
    if not threads and not connections:
        yield Finding(what, Verdict.OK, f"imported in {seconds:.2f} s, safe to fork")
