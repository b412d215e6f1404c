"""Which files have to be open, and how many daemon and zygotes may have: as their workers need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from resource import RLIM_INFINITY, RLIMIT_NOFILE, prlimit

from rqd.daemon.config import files_needed
from rqd.model.errors import ConfigurationError


def open_standard_files() -> None:
    """Opens /dev/null where this process was started with one of the first three closed.

    What is opened next would get its number, and be written into as if it were standard error.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(fd)


def make_room(workers: int, max_files: int | None, zygotes: Iterable[int] = ()) -> None:
    """Sees to it that this process, and zygotes that run, may have what so many workers need.

    `max_files` is what a zygote may have, None for as many as this process. Raises
    ConfigurationError where they may not.
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
