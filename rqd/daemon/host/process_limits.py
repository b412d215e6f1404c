"""Limits and privileges of this process: dumps, capabilities, open files."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from resource import RLIM_INFINITY, RLIMIT_NOFILE, prlimit

from rqd.daemon.config import files_needed
from rqd.model.errors import ConfigurationError

_CALLS_ADVICE = (
    "it takes Linux 5.3 or newer, and a container engine or seccomp profile that lets it through"
)
_PROC_ADVICE = "mount the one of its own process namespace there: mount -t proc proc /proc"


def check_kernel() -> None:
    """Raises ConfigurationError if the kernel withholds a needed call or /proc, with advice."""
    # The /proc of another namespace would show strangers' processes under the pids of ours.
    own_pid = ""
    with suppress(OSError):
        own_pid = os.readlink("/proc/self")
    if own_pid != str(os.getpid()):
        raise ConfigurationError(f"/proc does not show this process: {_PROC_ADVICE}")
    call = "pidfd_open"
    try:
        pidfd = os.pidfd_open(os.getpid())
        try:
            call = "pidfd_send_signal"
            signal.pidfd_send_signal(pidfd, 0)
        finally:
            os.close(pidfd)
        call = "memfd_create"
        os.close(os.memfd_create("rqd"))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"{call} is refused here ({why}): {_CALLS_ADVICE}") from None


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group of this machine."""

    name: str
    uid: int
    gid: int
    home: str


def find_account(text: str) -> Account:
    """Returns the account behind `NAME[:GROUP]`, names or numbers; without a group the user's own.

    Raises ConfigurationError if there is none, or it is root.
    """
    name, colon, group = text.partition(":")
    sought = f"user {name!r}"
    try:
        user = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        sought = f"group {group!r}"
        gid = _gid(group) if colon else user.pw_gid
    except (KeyError, OverflowError):
        raise ConfigurationError(f"--user {text}: there is no {sought} here") from None
    if user.pw_uid == 0:
        raise ConfigurationError(f"--user {text}: that is root: name a user with fewer rights")
    return Account(user.pw_name, user.pw_uid, gid, user.pw_dir)


def drop_to(account: Account) -> None:
    """Changes this process, and all it will start, to the account; there is no way back.

    Raises ConfigurationError unless this process is root's.
    """
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"--user {account.name} needs root: start as root, or as {account.name} without it"
        )
    # In this order: after setuid the groups could not be changed any more.
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _check_dropped(account)
    if not os.access(sys.executable, os.X_OK):
        # The zygote is a fresh interpreter, which that user must be able to run.
        raise ConfigurationError(f"--user {account.name}: no access to {sys.executable}")
    os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name)


def _check_dropped(account: Account) -> None:
    try:
        os.setuid(0)
    except PermissionError:
        kept = {*os.getresuid()} - {account.uid}, {*os.getresgid()} - {account.gid}
        if not any(kept):
            return
    raise ConfigurationError(f"--user {account.name}: root's rights could not be given up")


def _gid(group: str) -> int:
    return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid


def open_standard_files() -> None:
    """Opens /dev/null where this process was started with one of the first three closed.

    The next opened file would get its number, and be written into as if it were standard error.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(fd)


def make_room(workers: int, max_files: int | None, zygotes: Iterable[int] = ()) -> None:
    """Raises the limit of open files to the workers' need, here and in running zygotes.

    `max_files` is the limit of a zygote, None for the same as this process. Raises
    ConfigurationError if the need is above a limit.
    """
    needed = files_needed(workers)
    if max_files is not None and needed > max_files:
        raise _too_few(workers, needed, max_files, "--max-files")
    for pid in (0, *zygotes):
        with suppress(ProcessLookupError):
            soft, hard = prlimit(pid, RLIMIT_NOFILE)
            if soft == RLIM_INFINITY or soft >= needed:
                continue
            if hard != RLIM_INFINITY and hard < needed:
                raise _too_few(workers, needed, hard, "ulimit -Hn, or LimitNOFILE= of the unit")
            prlimit(pid, RLIMIT_NOFILE, (needed, hard))


def _too_few(workers: int, needed: int, most: int, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"--workers {workers}: they need {needed:,} open files, {most:,} are allowed: {where}"
    )
