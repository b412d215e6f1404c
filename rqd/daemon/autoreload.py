"""`--autoreload`: a process watches the application's files, and the master reads its reports.

The library for it starts threads, so it does not run in the master. The process imports nothing of
the application.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rqd.daemon.config import Config, zygote_path
from rqd.daemon.event_loop import Loop
from rqd.daemon.log.log import Log
from rqd.model.errors import ConfigurationError

_READ_BYTES = 65536


def check_can_watch() -> None:
    """Raises ConfigurationError if the library for it is not installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise ConfigurationError("--autoreload needs watchfiles: pip install 'rqd[autoreload]'")


class Autoreload:
    """The process that watches files, if the settings want it."""

    def __init__(self, loop: Loop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> set[int]:
        """The pid of the watching process; empty if there is none."""
        return {self._process.pid} if self._process is not None else set()

    def start(self, config: Config) -> None:
        """Watches the files of these settings from now on, and no others."""
        self.close()
        if not config.autoreload:
            return
        folders = [os.path.abspath(folder) for folder in config.path]
        program = (
            f"import sys; sys.path[:] = {zygote_path(config)!r};"
            " from rqd.daemon.autoreload import report_changes;"
            f" report_changes({folders!r}, {config.preload!r})"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,  # it closes when the master is gone, which ends the process
                stdout=subprocess.PIPE,
                process_group=0,  # a terminal's Ctrl-C is for the master alone
            )
        except OSError as error:
            self._log.error("can't watch the application's files", error=error)
            return
        os.set_blocking(self._fd, False)
        self._loop.watch(self._fd)

    def has_changed(self, ready: set[int]) -> bool:
        """True if files have changed since the last call."""
        if self._process is None or self._fd not in ready:
            return False
        names = os.read(self._fd, _READ_BYTES).decode(errors="replace").split("\n")
        if names == [""]:
            self.close()
            self._log.error("the application's files are watched no longer: reload by hand")
            return False
        self._log.info("code changed", file=names[0])
        return True

    def close(self) -> None:
        """Ends the watching process, if there is one."""
        if self._process is None:
            return
        self._loop.forget(self._fd)
        self._process.kill()
        self._process.communicate()  # which also closes the pipes
        self._process = None

    @property
    def _fd(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()


def report_changes(folders: Sequence[str], modules: Sequence[str]) -> None:
    """Writes a line with a file's name when Python files have changed and are at rest again.

    Watches the folders and the packages of the modules; ends with its standard input.
    """
    from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an extra, for this process only

    threading.Thread(target=_end_with_input, daemon=True).start()
    for changes in watch(*places_of(folders, modules), watch_filter=PythonFilter()):
        names = sorted(os.path.relpath(path) for _, path in changes)
        sys.stdout.write(f"{names[0]}\n")
        sys.stdout.flush()


def places_of(folders: Iterable[str], modules: Iterable[str]) -> list[Path]:
    """Returns the folders and files to watch, none of which lies in another."""
    found = {Path(folder).resolve() for folder in folders}
    for name in sorted({module.partition(".")[0] for module in modules}):
        found.update(_homes_of(name))
    return sorted(one for one in found if not any(other in found for other in one.parents))


def _homes_of(name: str) -> Iterator[Path]:
    """Yields a package's folders, or a module's file. A name without a dot imports nothing."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        yield from (Path(folder).resolve() for folder in spec.submodule_search_locations)
    elif spec.origin is not None and os.path.isfile(spec.origin):
        yield Path(spec.origin).resolve()


def _end_with_input() -> None:
    """Ends the process when its standard input closes, as the master is gone then."""
    os.read(0, 1)
    os._exit(0)
