"""A daemon under test: `rqd start` in a session of its own, its log in a file."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypedDict, Unpack

import psutil

from tests.forks import Fork, is_for_python
from tests.processes import bound_to_pytest
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
READY_S = 10.0
LIMIT_S = 60.0
READY = re.compile(r"\bready\b")
MARK = "RQD_TEST_DAEMON"


class Options(TypedDict, total=False):
    """How to start a daemon; what isn't said is one worker on the queue `default`, in ROOT.

    Empty `queues` and 0 `workers` leave the option away: a file of settings may say it.
    """

    url: str
    queues: str
    workers: int
    cwd: Path
    env: Mapping[str, str]
    limit_s: float
    python: str
    # What runs it, such as `ip netns exec NAME`; it must become the daemon by exec.
    within: Sequence[str]


class Daemon:
    """A master in a subprocess: ready, or already ended, when the constructor returns.

    It is a fork of a process that has the command imported (tests/fork_server.py); it starts from
    nothing if its options are for Python itself. Whatever happens, it dies with pytest and after
    `limit_s`. `clean_up`, or leaving the block, kills it and every process that came of it.
    """

    def __init__(self, log_path: Path, *extra: str, **options: Unpack[Options]) -> None:
        self.log_path = log_path
        self.arguments = ["start", *_start_options(options), *extra]
        self._seen: set[psutil.Process] = set()
        # A mark in the environment, by which what escaped into another session can be told.
        self._mark = f"{os.getpid()}:{log_path}"
        state = {"XDG_STATE_HOME": str(log_path.parent / "state"), "RQD_LOG_FORMAT": "text"}
        env = {**os.environ, **state, **options.get("env", {}), MARK: self._mark}
        with log_path.open("wb") as log:
            run = self._from_the_start if _needs_a_start(options) else self._from_the_stem
            self.process = run(log.fileno(), env, options)
        self._born = psutil.Process(self.pid).create_time()
        try:
            eventually(self._ready_or_ended, READY_S, lambda: f"ready; its log:\n{self.log()}")
        except BaseException:
            self.clean_up()
            raise
        # A server that an `embedded:` master starts has left the session, and writes over its mark.
        self.tree()

    def _from_the_stem(self, log: int, env: Mapping[str, str], options: Options) -> Fork:
        return Fork(
            self.arguments,
            env,
            options.get("cwd", ROOT),
            out=log,
            err=log,
            limit_s=options.get("limit_s", LIMIT_S),
            own_session=True,
        )

    def _from_the_start(
        self, log: int, env: Mapping[str, str], options: Options
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *options.get("within", ()),
                options.get("python", sys.executable),
                *("-m", "rqd", *self.arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=options.get("cwd", ROOT),
            env=env,
            start_new_session=True,
            preexec_fn=bound_to_pytest(options.get("limit_s", LIMIT_S)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clean_up()

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, signum: int) -> None:
        """Send the master a signal; nothing if it has ended."""
        self.process.send_signal(signum)

    def wait(self, timeout_s: float = 10.0) -> int:
        """The return code, once the master has ended; minus the signal's number if one killed it.

        Raises: AssertionError with the log if it hasn't ended in time.
        """
        eventually(lambda: not self.running, timeout_s, lambda: f"end; its log:\n{self.log()}")
        return self.process.wait()

    def stop(self, timeout_s: float = 10.0) -> int:
        """Ask for a graceful stop, and return the return code."""
        self.tree()
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def log(self) -> str:
        """What the daemon has written so far, to stdout and stderr."""
        return self.log_path.read_text(errors="replace")

    def state(self) -> str:
        """A line for the master and each of its tree: pid, state, where it waits, title."""
        ended = self.process.poll()
        lines = [f"master {self.pid}: " + ("runs" if ended is None else f"ended with {ended}")]
        for title, process in self.titles().items():
            try:
                where = Path(f"/proc/{process.pid}/wchan").read_text() or "?"
                lines.append(f"{process.pid} {process.status()} in {where}: {title}")
            except (OSError, psutil.Error):
                continue
        return "\n".join(lines)

    def tree(self) -> list[psutil.Process]:
        """The master's living children and their children; empty once it has ended."""
        try:
            living = psutil.Process(self.pid).children(recursive=True) if self.running else []
        except psutil.NoSuchProcess:
            living = []
        self._seen.update(living)
        return living

    def titles(self) -> dict[str, psutil.Process]:
        """The living processes of the tree, the master among them, by their titles."""
        found: dict[str, psutil.Process] = {}
        for process in [*([psutil.Process(self.pid)] if self.running else []), *self.tree()]:
            if title := _title(process):  # one that is just dying has none any more
                found[title] = process
        return found

    def titled(self, start: str) -> psutil.Process:
        """The process whose title starts so, as soon as there is one."""

        def matching() -> list[psutil.Process]:
            return [p for title, p in self.titles().items() if title.startswith(start)]

        return eventually(matching, 5.0, lambda: f"{start!r} among {[*self.titles()]}")[0]

    def zygotes(self) -> list[psutil.Process]:
        """The master's zygotes. A child that was just forked still has the title of its zygote."""
        try:
            own = psutil.Process(self.pid).children() if self.running else []
        except psutil.NoSuchProcess:
            own = []
        return [process for process in own if _title(process).startswith("rqd: zygote")]

    def zygote(self) -> psutil.Process:
        """The only zygote, as soon as there is one and no other."""
        return eventually(lambda: found if len(found := self.zygotes()) == 1 else [])[0]

    def leftovers(self) -> list[psutil.Process]:
        """Every living process that came of this daemon, the master apart, even after its end.

        A process counts if it was in the tree when one looked, is in the daemon's session, or
        carries its mark in the environment. A zombie is dead: who reaps an orphan isn't ours.
        """
        self.tree()
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.pid and self._is_ours(process) and alive(process)
        ]

    def clean_up(self) -> None:
        """Kill the master and everything that came of it; nothing if all have ended."""
        self.tree()
        if self.running:
            self.process.kill()
        self.process.wait()
        while orphans := self.leftovers():
            for orphan in orphans:
                _kill(orphan)

    def _ready_or_ended(self) -> bool:
        return not self.running or READY.search(self.log()) is not None

    def _is_ours(self, process: psutil.Process) -> bool:
        if process in self._seen:
            return True
        try:
            # Most are older; psutil remembers that, and an environment is read anew each time.
            return process.create_time() >= self._born and (
                os.getsid(process.pid) == self.pid or self._carries_mark(process.pid)
            )
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False

    def _carries_mark(self, pid: int) -> bool:
        # Read raw: a process that sets its title overwrites this, which psutil would stumble over.
        try:
            return f"{MARK}={self._mark}".encode() in Path(
                f"/proc/{pid}/environ"
            ).read_bytes().split(b"\0")
        except OSError:
            return False


def _title(process: psutil.Process) -> str:
    try:
        # In words where the title fills the place of the first command line to the last byte.
        return " ".join(process.cmdline()).rstrip()
    except psutil.Error:
        return ""


def _needs_a_start(options: Options) -> bool:
    return "python" in options or "within" in options or is_for_python(options.get("env", ()))


def _start_options(options: Options) -> list[str]:
    queues, workers = options.get("queues", "default"), options.get("workers", 1)
    arguments = ["--queues", queues] if queues else []
    arguments += ["--workers", str(workers)] if workers else []
    return ["--url", options["url"], *arguments] if "url" in options else arguments


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie doesn't."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


class StartDaemon(Protocol):
    """The fixture `start_daemon`: a Daemon on the test's server, unless told another URL."""

    def __call__(self, *extra: str, **options: Unpack[Options]) -> Daemon: ...
