"""A cgroup of processes by which a master's forks can be made to fail, where one can be made."""

from __future__ import annotations

import os
from pathlib import Path

_ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


class Cage:
    """A pids cgroup for a master and all it forks; `lacks` says why there is none."""

    def __init__(self, name: str) -> None:
        self._folder: Path | None = None
        self.lacks = "no pids cgroup can be made here (that takes root)"
        for root in _ROOTS:
            folder = root / f"rqd-torture-{name}"
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / "pids.max").exists():
                self._folder, self.lacks = folder, ""
                return
            folder.rmdir()

    def hold(self, pid: int) -> None:
        """The process, and what it forks from now on, is in the cage."""
        if self._folder is not None:
            try:
                (self._folder / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                return

    def close(self) -> None:
        """Each further fork of those inside fails with EAGAIN."""
        assert self._folder is not None
        (self._folder / "pids.max").write_text((self._folder / "pids.current").read_text())

    def open(self) -> None:
        """Forks are possible again."""
        assert self._folder is not None
        (self._folder / "pids.max").write_text("max")

    def remove(self) -> None:
        """Takes it away, once it is empty."""
        if self._folder is not None:
            try:
                os.rmdir(self._folder)
            except OSError:
                return
