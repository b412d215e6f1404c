"""The harness keeps its own promises: what the tests start dies with them."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.daemons import ROOT, StartDaemon, alive
from tests.servers import RedisServer
from tests.waiting import eventually


def test_each_test_finds_an_empty_server(redis_url: str, server: RedisServer) -> None:
    assert server.url == redis_url
    assert server.command("DBSIZE") == ":0"


def test_every_server_answers_on_its_socket_and_not_on_tcp(every_server: RedisServer) -> None:
    every_server.command("SET here 1")

    assert every_server.command("DBSIZE") == ":1"
    assert [one for one in psutil.net_connections("tcp") if one.pid == every_server.pid] == []


def test_a_restarted_server_keeps_its_data_and_a_killed_one_loses_it(
    own_server: RedisServer,
) -> None:
    own_server.command("SET here 1")

    own_server.restart()
    assert own_server.command("DBSIZE") == ":1"

    own_server.kill()
    own_server.start()
    assert own_server.command("DBSIZE") == ":0"


def test_a_server_dies_with_a_killed_test_run() -> None:
    program = (
        "from tests.servers import *\n"
        "with running_server(default_binary()) as s: print(s.pid, s.folder, flush=True); input()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().decode().split()
        server = psutil.Process(int(pid))
        run.kill()

    eventually(lambda: not alive(server))
    shutil.rmtree(folder)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder whose `rqd` is a program with an escaped grandchild, as a daemon under test.

    It needs a start of Python: a fork of the stem is the real one.
    """
    package = tmp_path / "rqd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import subprocess, time\n"
        "print('ready', flush=True)\n"
        "subprocess.Popen(['sleep', '60'])\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print('busy', flush=True)\n"
        "time.sleep(60)\n"
    )
    return tmp_path


def test_a_daemon_is_ready_when_it_says_so_and_nothing_is_left_of_it(
    start_daemon: StartDaemon, stand_in: Path
) -> None:
    daemon = start_daemon(cwd=stand_in, python=sys.executable)
    eventually(lambda: daemon.log() == "ready\nbusy\n")
    assert len(daemon.tree()) == 2

    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL
    assert len(daemon.leftovers()) == 2

    daemon.clean_up()
    assert daemon.leftovers() == []


def test_what_left_its_session_unseen_is_found_by_its_mark(
    start_daemon: StartDaemon, stand_in: Path
) -> None:
    daemon = start_daemon(cwd=stand_in, python=sys.executable)
    eventually(lambda: "busy" in daemon.log())

    daemon.signal(signal.SIGKILL)
    daemon.wait()

    assert len(daemon.leftovers()) == 2


def test_a_daemon_ends_at_its_limit(start_daemon: StartDaemon, stand_in: Path) -> None:
    for daemon in (
        start_daemon(cwd=stand_in, python=sys.executable, limit_s=1.0),
        start_daemon(limit_s=1.0),
    ):
        assert daemon.wait() == -signal.SIGALRM


def test_a_daemon_dies_with_a_killed_test_run(redis_url: str, tmp_path: Path) -> None:
    program = (
        "from tests.daemons import *\n"
        "d = Daemon(Path(sys.argv[1]), url=sys.argv[2]); print(d.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log"), redis_url]
    run = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with run:
        assert run.stdout is not None
        master = psutil.Process(int(run.stdout.readline()))
        run.kill()

    eventually(lambda: not alive(master))


def test_a_fork_of_the_command_tells_how_it_ended(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    assert daemon.running

    assert daemon.stop() == 0
    daemon.signal(signal.SIGKILL)  # which reaches nobody

    assert daemon.wait() == 0
    assert not psutil.pid_exists(daemon.pid)
