"""Another rqd is installed under a daemon that runs: it serves on, and says what it needs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

import rqd as package
from rqd import Queue
from rqd.client.connection import Backend
from rqd.model.records import JobStatus
from tests.cli.running import rqd
from tests.daemons import Daemon, StartDaemon
from tests.installed import Installed
from tests.waiting import eventually

SHOP = """
import time
def hold(fifo):
    return open(fifo).read()
def version():
    import rqd
    return rqd.__version__
def sleep(seconds):
    time.sleep(seconds)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    return Installed(folder)


def start(start_daemon: StartDaemon, installed: Installed, *options: str, **env: str) -> Daemon:
    return start_daemon(
        *("--preload", "shop", *options),
        workers=2,
        cwd=installed.folder,
        env={**installed.env, **env},
    )


def test_a_master_needs_nothing_of_its_package_once_it_has_begun(
    start_daemon: StartDaemon, queue: Queue, there: Backend, redis_url: str, installed: Installed
) -> None:
    # Of what a version calls, the next one may have changed or removed anything.
    daemon = start(start_daemon, installed)
    assert queue.enqueue("shop.version").wait(10).return_value() == package.__version__
    installed.spoil()

    # What it has not done before: answers, cron entries, a stop of a job, settings, its end.
    assert rqd("scale", "3", url=redis_url).status == 0, daemon.log()
    assert rqd("cron", "add", "soon", "shop.version", "--interval", "1", url=redis_url).status == 0
    eventually(lambda: "cron runs enqueued cron=soon" in daemon.log(), message=daemon.log)
    running = queue.enqueue("shop.sleep", 60)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    assert rqd("job", running.id, "stop", url=redis_url).status == 0
    eventually(lambda: running.get_status() is JobStatus.STOPPED, 10, daemon.log)
    assert rqd("reload", url=redis_url).status == 1
    (installed.folder / "crons.toml").write_text("")
    (installed.folder / "rqd.toml").write_text('cron = "crons.toml"\n')
    daemon.signal(signal.SIGHUP)
    why = "reload refused, the old code serves on error='ImportError: another rqd'"
    eventually(lambda: why in daemon.log(), message=daemon.log)
    assert daemon.stop() == 0
    assert there.views.masters() == []


def test_a_reload_that_needs_a_module_of_another_version_for_the_first_time_is_refused(
    start_daemon: StartDaemon, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    # What two versions do not agree on shows as any error.
    path = installed.package / "client" / "cron.py"
    path.unlink()
    path.write_text("import rqd.client.connection\nrqd.client.connection.of_the_next_version()\n")
    (installed.folder / "crons.toml").write_text("")
    (installed.folder / "rqd.toml").write_text('cron = "crons.toml"\n')

    daemon.signal(signal.SIGHUP)

    eventually(lambda: "reload refused" in daemon.log(), message=daemon.log)
    assert "of_the_next_version" in daemon.log()
    assert daemon.stop() == 0


def test_a_zygote_lost_after_an_installation_is_followed_by_one_of_the_new_version_aloud(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    installed.upgrade("9.9.9")
    daemon.zygote().kill()
    eventually(lambda: "zygote lost" in daemon.log())  # and with it its children, who wait for jobs
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    told = "zygote is of another rqd than its master: restart the daemon pid="
    assert daemon.log().count(told) == 1
    assert f"version=9.9.9 master={package.__version__}" in daemon.log()
    why = f"rqd itself is 9.9.9 by now, this master {package.__version__}: restart the daemon"
    assert why in rqd("reload", url=redis_url).out
    assert daemon.stop() == 0

    start(start_daemon, installed)
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    assert rqd("reload", url=redis_url).status == 0


def test_a_zygote_that_its_master_does_not_understand_runs_no_job(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    installed.upgrade("9.9.9")
    installed.edit("daemon/zygote/protocol.py", "FORMAT = 4", "FORMAT = 5")
    why = f"rqd itself is 9.9.9 by now, this master {package.__version__}: restart the daemon"
    assert f"the old code serves on:\n    {why}\n" in rqd("reload", url=redis_url).out
    daemon.zygote().kill()
    eventually(lambda: "zygote lost" in daemon.log())  # and with it its children, who wait for jobs
    job = queue.enqueue("shop.version")
    told = "zygote is of an rqd that its master does not understand: restart the daemon pid="
    eventually(lambda: daemon.log().count(told) == 3, 20.0, daemon.log)
    pauses = re.findall(r"zygote lost .*restart_in_s=([\d.]+)", daemon.log())
    assert pauses[:3] in (["0", "0.2", "0.4"], ["0.0", "0.2", "0.4"])  # and more each time
    assert job.get_status() is JobStatus.QUEUED
    daemon.titled(f"rqd: master [default] starting: {why}")
    eventually(lambda: f": no job starts: {why}\n" in rqd("info", url=redis_url).out, 10.0)
    assert f"refused, no job starts:\n    {why}\n" in rqd("reload", url=redis_url).out

    installed.edit("daemon/zygote/protocol.py", "FORMAT = 5", "FORMAT = 4")
    assert job.wait(20).return_value() == "9.9.9"
    daemon.titled("rqd: master [default] 0/2 busy")
    assert "no job starts" not in rqd("info", url=redis_url).out


def test_a_new_version_beside_takes_the_queue_and_the_old_one_ends_with_its_job(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed, fifo: str
) -> None:
    old = start(start_daemon, installed, "--name", "old")
    running = queue.enqueue("shop.hold", fifo)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    installed.upgrade("9.9.9")
    new = start(start_daemon, installed, "--name", "new")

    assert rqd("drain", "--no-wait", "--name", "old", url=redis_url).status == 0
    eventually(lambda: "paused" in old.log(), message=old.log)
    made = [queue.enqueue("shop.version") for _ in range(5)]

    assert [job.wait(10).return_value() for job in made] == ["9.9.9"] * 5
    Path(fifo).write_text("held")
    assert rqd("drain", "--name", "old", url=redis_url).status == 0
    assert (running.return_value(), len(running.results())) == ("held", 1)
    assert rqd("stop", "--master", "old", url=redis_url).status == 0
    assert old.wait() == 0
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    assert "put back" not in old.log() + new.log()
