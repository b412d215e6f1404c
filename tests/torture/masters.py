"""Keeps a master running, as systemd would with Restart=always, and looks for what outlives one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.torture.cage import Cage
from tests.torture.history import History
from tests.torture.launch import Launched, processes_in, title_of
from tests.torture.systems import MasterSpec, System

# What design promises: nothing of a job lives so long after its master's death.
ORPHAN_AFTER_S = 2.0
_AGAIN_S = 0.3
_STOP_S = 20.0


class Keeper:
    """One master's name, and the processes that bear it one after the other (`m1.1`, `m1.2`, ..).

    Each has a folder of its own, which all that come of it inherit as their working folder.
    """

    def __init__(
        self, system: System, spec: MasterSpec, url: str, out: Path, env: Mapping[str, str]
    ) -> None:
        self.name = spec.name
        self.cage = Cage(f"{os.getpid()}-{spec.name}")
        self._system = system
        self._command = system.command(spec, url)
        self._out = out
        self._env = {**os.environ, **system.env, **env}
        self._history = History(out / f"master-{spec.name}.jsonl")
        self._launched: Launched | None = None
        self._count = 0
        self._stopping = threading.Event()
        self._watches: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._keep, name=spec.name)

    def start(self) -> None:
        """From now on there is a master of this name."""
        self._thread.start()

    @property
    def incarnation(self) -> str:
        """`m1.3`, the third process of this name."""
        return f"{self.name}.{self._count}"

    @property
    def pid(self) -> int | None:
        """The master's pid; None while there is none."""
        launched = self._launched
        return launched.pid if launched and launched.is_running else None

    @property
    def is_ready(self) -> bool:
        """Whether the present master takes jobs."""
        launched = self._launched
        return self.pid is not None and launched is not None and self._log_says_ready(launched)

    @property
    def hang_flag(self) -> Path:
        """While this file exists, new children hang before they are ready."""
        return self._out / f"hang-{self.name}"

    @property
    def broken_flag(self) -> Path:
        """While this file exists, the jobs' module can't be imported."""
        return self._out / f"broken-{self.name}"

    def folder(self) -> Path:
        """The present master's working folder."""
        return self._out / "masters" / self.incarnation

    def signal(self, signum: int) -> None:
        """Sends the master a signal; nothing if there is none."""
        if self._launched is not None:
            self._launched.signal(signum)

    def stop(self) -> None:
        """Ends it in order, and watches for what it leaves."""
        self._stopping.set()
        self.hang_flag.unlink(missing_ok=True)
        self.broken_flag.unlink(missing_ok=True)
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._history.note("breach", what=f"{self.incarnation} did not stop in {_STOP_S:g} s")
            self.signal(signal.SIGKILL)
            self._thread.join()
        for watch in self._watches:
            watch.join()
        self.cage.remove()
        self._history.close()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            self._count += 1
            launched = self._launch()
            born = time.monotonic()
            status = launched.wait()
            self._history.note("died", master=self.incarnation, status=status)
            if self._system.is_swept:
                end_processes_in(launched.folder)
            watch = threading.Thread(target=self._watch, args=(self.incarnation, launched.folder))
            watch.start()
            self._watches.append(watch)
            launched.close()
            # A name that is still taken, or Redis away: again soon, without eating a processor.
            if time.monotonic() - born < 2.0:
                self._stopping.wait(_AGAIN_S)

    def _launch(self) -> Launched:
        folder = self.folder()
        folder.mkdir(parents=True)
        env = {
            **self._env,
            "RQD_TORTURE_MASTER": self.incarnation,
            "RQD_TORTURE_HISTORY": str(self._out / f"jobs-{self.incarnation}.jsonl"),
            "RQD_TORTURE_HANG": str(self.hang_flag),
            "RQD_TORTURE_BROKEN": str(self.broken_flag),
            "XDG_STATE_HOME": str(self._out / "state"),
        }
        log = self.log_folder() / f"{self.incarnation}.log"
        launched = Launched(self._command, folder, log, env)
        self.cage.hold(launched.pid)
        self._launched = launched
        self._history.note("born", master=self.incarnation, pid=launched.pid)
        return launched

    def log_folder(self) -> Path:
        """Where its masters' logs are: a small file system of its own, where there is one."""
        small = self._out / f"logs-{self.name}"
        return small if small.is_dir() else self._out / "masters"

    def _watch(self, incarnation: str, folder: Path) -> None:
        died = time.monotonic()
        while time.monotonic() - died < ORPHAN_AFTER_S:
            if not processes_in(folder):
                return
            time.sleep(0.1)
        for pid in processes_in(folder):
            title = title_of(pid)
            self._history.note("orphan", master=incarnation, pid=pid, title=title)

    def _log_says_ready(self, launched: Launched) -> bool:
        try:
            return self._system.is_ready(launched.log.read_text(errors="replace"))
        except OSError:
            return False


def end_processes_in(folder: Path) -> None:
    """Kills what an invalid run left behind: by pid, each known by its working folder."""
    for pid in processes_in(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
