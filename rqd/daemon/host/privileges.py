"""`--user`: root's rights are given up, for good, before anything else of a daemon begins."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from dataclasses import dataclass

from rqd.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group of this machine."""

    name: str
    uid: int
    gid: int
    home: str


def find_account(text: str) -> Account:
    """The account behind `NAME[:GROUP]`, names or numbers; without a group the user's own.

    Raises ConfigurationError if there is none, or it is root.
    """
    name, colon, group = text.partition(":")
    try:
        user = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise ConfigurationError(f"--user {text}: there is no user {name!r} here") from None
    try:
        gid = _gid(group) if colon else user.pw_gid
    except (KeyError, OverflowError):
        raise ConfigurationError(f"--user {text}: there is no group {group!r} here") from None
    if user.pw_uid == 0:
        raise ConfigurationError(f"--user {text}: that is root: name a user with fewer rights")
    return Account(user.pw_name, user.pw_uid, gid, user.pw_dir)


def drop_to(account: Account) -> None:
    """Makes this process, and all it will start, the account's; there is no way back.

    Raises ConfigurationError unless it is root's.
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
        # The zygote is a fresh interpreter, and that user's.
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
