"""A reload: another zygote, with the code as it is by then, takes over, and nothing is lost."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.model.records import JobStatus
from tests.cli.running import rqd
from tests.daemons import Daemon, StartDaemon
from tests.waiting import eventually

CODE = """
import os, pathlib
VERSION = pathlib.Path(__file__).with_name('version').read_text()
exec(VERSION.partition(';')[2].strip())
def version(): return VERSION
def hold(fifo): return open(fifo).read() + VERSION
"""


class Application:
    """A module whose code is in the file `version`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(CODE)

    def deploy(self, version: str) -> None:
        """What stands behind a `;` is executed when the module is imported."""
        (self.folder / "version").write_text(version)


@pytest.fixture
def application(tmp_path: Path) -> Application:
    folder = tmp_path / "application"
    folder.mkdir()
    application = Application(folder)
    application.deploy("one")
    return application


def zygotes(daemon: Daemon) -> list[int]:
    return [process.pid for process in daemon.zygotes()]


def reloads(daemon: Daemon) -> int:
    return daemon.log().count(" reloaded ")


@pytest.mark.parametrize("jobs_per_child", ["1", "1000"])
def test_running_jobs_end_in_the_old_code_and_the_next_have_the_new(
    start_daemon: StartDaemon,
    queue: Queue,
    redis_url: str,
    application: Application,
    fifo: str,
    jobs_per_child: str,
) -> None:
    options = ("--preload", "shop", "--jobs-per-child", jobs_per_child)
    daemon = start_daemon(*options, workers=2, cwd=application.folder)
    running = queue.enqueue("shop.hold", fifo)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    assert queue.enqueue("shop.version").wait(10).return_value() == "one"
    old = daemon.zygote().pid
    application.deploy("two")

    ran = rqd("reload", url=redis_url)

    assert ran.status == 0, ran
    assert "reloaded in" in ran.out
    assert queue.enqueue("shop.version").wait(10).return_value() == "two"
    assert old in zygotes(daemon)
    Path(fifo).write_text("held in ")
    assert running.wait(10).return_value() == "held in one"
    assert len(running.results()) == 1
    eventually(lambda: old not in zygotes(daemon))
    # The place that was busy has the new code, too.
    second = queue.enqueue("shop.hold", fifo)
    eventually(lambda: second.get_status() is JobStatus.STARTED)
    assert queue.enqueue("shop.version").wait(10).return_value() == "two"
    Path(fifo).write_text("")
    assert second.wait(10).return_value() == "two"
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("two; import no_such_module", "No module named 'no_such_module'"),
        ("two; os._exit(3)", "it died while it booted (status 3)"),
    ],
)
def test_a_broken_deploy_is_refused_and_the_old_code_serves_on(
    start_daemon: StartDaemon,
    queue: Queue,
    redis_url: str,
    application: Application,
    broken: str,
    told: str,
) -> None:
    daemon = start_daemon("--preload", "shop", cwd=application.folder)
    application.deploy(broken)

    ran = rqd("reload", url=redis_url)

    assert ran.status == 1, ran
    assert "refused, the old code serves on" in ran.out
    assert told in ran.out
    assert told in rqd("info", url=redis_url).out
    assert told in daemon.log()
    assert queue.enqueue("shop.version").wait(10).return_value() == "one"
    application.deploy("three")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: reloads(daemon) == 1, message=daemon.log)
    assert queue.enqueue("shop.version").wait(10).return_value() == "three"
    eventually(lambda: "refused" not in rqd("info", url=redis_url).out)


def test_a_reload_that_a_newer_one_follows_is_no_error(
    start_daemon: StartDaemon, queue: Queue, application: Application, fifo: str
) -> None:
    daemon = start_daemon("--preload", "shop", cwd=application.folder)
    application.deploy(f"two; open({fifo!r}).read()")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: len(zygotes(daemon)) == 2)
    application.deploy("three")

    daemon.signal(signal.SIGHUP)

    eventually(lambda: reloads(daemon) == 1, 10.0, daemon.log)
    assert queue.enqueue("shop.version").wait(10).return_value() == "three"
    assert daemon.log().count(" reloading ") == 2
    assert "ERROR" not in daemon.log()


def test_reloads_under_load_lose_nothing_and_start_nothing_twice(
    start_daemon: StartDaemon, queue: Queue, application: Application
) -> None:
    daemon = start_daemon("--preload", "shop", workers=4, cwd=application.folder)
    made = []
    for number in range(5):
        application.deploy(f"version {number}")
        daemon.signal(signal.SIGHUP)
        # Some are always on their way, so that jobs are claimed before, at and after the change.
        while reloads(daemon) == number:
            made.append(queue.enqueue("shop.version"))
            made[-8:][0].wait(20)
    assert len(made) > 20
    for job in made[-8:]:
        job.wait(20)
    assert {(job.get_status(), len(job.results())) for job in made} == {(JobStatus.FINISHED, 1)}
    assert "put back" not in daemon.log()
    assert queue.enqueue("shop.version").wait(10).return_value() == "version 4"
    eventually(lambda: len(zygotes(daemon)) == 1)


def test_a_job_whose_old_zygote_dies_runs_again_in_the_new_code(
    start_daemon: StartDaemon, queue: Queue, application: Application, fifo: str
) -> None:
    daemon = start_daemon("--preload", "shop", cwd=application.folder)
    running = queue.enqueue("shop.hold", fifo)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    old = daemon.zygote().pid
    application.deploy("two")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: reloads(daemon) == 1, message=daemon.log)

    os.kill(old, signal.SIGKILL)

    eventually(lambda: f"zygote gone pid={old}" in daemon.log())
    Path(fifo).write_text("again in ")
    assert running.wait(10).return_value() == "again in two"


def test_a_zygote_that_dies_while_another_boots_is_replaced_and_the_reload_is_done(
    start_daemon: StartDaemon, queue: Queue, application: Application, fifo: str
) -> None:
    daemon = start_daemon("--preload", "shop", cwd=application.folder)
    old = daemon.zygote().pid
    application.deploy(f"two; open({fifo!r}).read()")
    daemon.signal(signal.SIGHUP)
    with open(fifo, "w"):  # the next one is in the middle of its boot
        application.deploy("three")
        os.kill(old, signal.SIGKILL)
        # Till then a child it forked ahead may take the job, rightly, in the code it has.
        eventually(lambda: f"zygote lost pid={old}" in daemon.log())
        assert queue.enqueue("shop.version").wait(10).return_value() == "three"
        assert reloads(daemon) == 0

    eventually(lambda: reloads(daemon) == 1, message=daemon.log)
    assert "two" in str(queue.enqueue("shop.version").wait(10).return_value())
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def test_a_reload_while_the_zygote_before_the_last_has_not_left_ends_nothing(
    start_daemon: StartDaemon, queue: Queue, application: Application
) -> None:
    daemon = start_daemon("--preload", "shop", cwd=application.folder)
    old = daemon.zygote().pid
    os.kill(old, signal.SIGSTOP)
    for number in (1, 2):
        application.deploy(f"version {number}")
        daemon.signal(signal.SIGHUP)
        eventually(lambda n=number: reloads(daemon) == n, message=daemon.log)  # type: ignore[misc]  # bound now
    assert queue.enqueue("shop.version").wait(10).return_value() == "version 2"
    eventually(lambda: old not in zygotes(daemon), 10.0)
    assert daemon.stop() == 0


def test_a_place_that_is_taken_away_and_given_back_lets_its_old_job_run_on(
    start_daemon: StartDaemon, queue: Queue, application: Application, fifo: str
) -> None:
    daemon = start_daemon("--preload", "shop", workers=2, cwd=application.folder)
    jobs = []
    for number in range(2):
        os.mkfifo(f"{fifo}{number}")
        jobs.append(queue.enqueue("shop.hold", f"{fifo}{number}", job_timeout=-1))
    writers = [open(f"{fifo}{number}", "w") for number in range(2)]  # noqa: SIM115 - closed below
    application.deploy("two")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: reloads(daemon) == 1, message=daemon.log)
    for signum, count in ((signal.SIGTTOU, 1), (signal.SIGTTIN, 2)):
        daemon.signal(signum)
        eventually(lambda c=count: f"workers resized workers={c}" in daemon.log())  # type: ignore[misc]  # bound now
    for writer in writers:
        writer.close()
    assert [job.wait(10).return_value() for job in jobs] == ["one", "one"]
    assert [queue.enqueue("shop.version").wait(10).return_value() for _ in range(4)] == ["two"] * 4


@pytest.mark.parametrize("command", [["reload"], ["stop"], ["pause", "--all-masters"]])
def test_who_waits_for_a_master_hears_that_it_is_gone_though_another_one_has_its_name_by_then(
    start_daemon: StartDaemon,
    queue: Queue,
    redis_url: str,
    there: Backend,
    application: Application,
    fifo: str,
    command: list[str],
) -> None:
    daemon = start_daemon("--preload", "shop", "--name", "same", cwd=application.folder)
    queue.enqueue("shop.hold", fifo)  # `stop` and `pause` wait for it
    eventually(lambda: queue.started_job_registry.count == 1)
    application.deploy("two; import time; time.sleep(1000)")
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(rqd, *command, url=redis_url)
        # Once its row shows that it obeys, its answer has been written, too.
        shows = {"reload": "booting", "stop": "stopping", "pause": "paused"}[command[0]]
        eventually(lambda: shows in there.views.masters()[0].values())
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        application.deploy("three")
        start_daemon("--preload", "shop", "--name", "same", cwd=application.folder)
        ran = waiting.result(10)

    assert "same: gone" in ran.out or "same: stopped" in ran.out, ran


def test_systemd_hears_when_a_reload_begins_and_when_it_is_over(
    start_daemon: StartDaemon, redis_url: str, application: Application, tmp_path: Path
) -> None:
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def hears(*lines: str) -> bool:
            with suppress(BlockingIOError):
                while True:
                    said.append(systemd.recv(4096).decode().partition("\n")[0])
            return [one for one in said if one.endswith("=1")] == [*lines]

        env = {"NOTIFY_SOCKET": systemd.getsockname()}
        start_daemon("--preload", "shop", cwd=application.folder, env=env)
        eventually(lambda: hears("READY=1"), message=lambda: str(said))
        assert rqd("reload", url=redis_url).status == 0
        wanted = ("READY=1", "RELOADING=1", "READY=1")
        eventually(lambda: hears(*wanted), message=lambda: str(said))
