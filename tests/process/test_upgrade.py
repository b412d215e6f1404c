"""An upgrade: another rqd goes on as the master, in the same process, and no job is lost by it."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import rqd as package
from rqd import Queue
from rqd.connection import Backend
from rqd.model.records import JobStatus
from rqd.model.signing import Keyring
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests.cli.running import rqd
from tests.daemons import Daemon, StartDaemon
from tests.installed import Installed
from tests.waiting import eventually, has_text

SHOP = """
import time
def hold(fifo):
    print("begun")
    text = open(fifo).read()
    print("ended")
    return text
def version():
    import rqd
    return rqd.__version__
def sleep(seconds):
    time.sleep(seconds)
def note(path, word):
    with open(path, "a") as file:
        file.write(word + "\\n")
"""
# At the place where no handler stands yet, and nothing was taken over.
WAITING = """
import os
if "RQD_HANDOVER" in os.environ and os.getpid() == {pid}:
    open({fifo!r}).read()
"""


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    return Installed(folder)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The end at which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def start(start_daemon: StartDaemon, installed: Installed, *options: str, **env: str) -> Daemon:
    return start_daemon(
        *("--preload", "shop", *options),
        workers=2,
        cwd=installed.folder,
        env={**installed.env, **env},
    )


def told(listening: socket.socket, before: list[str]) -> list[str]:
    """READY and the like, as they came. The queue is short: what nobody reads is not sent."""
    while True:
        try:
            line = listening.recv(4096).decode().partition("\n")[0]
        except BlockingIOError:
            return before
        if not line.startswith(("STATUS", "WATCHDOG")):
            before.append(line)


def test_the_master_goes_on_as_the_new_version_and_its_jobs_run_on(
    start_daemon: StartDaemon,
    queue: Queue,
    there: Backend,
    redis_url: str,
    installed: Installed,
    fifo: str,
    systemd: socket.socket,
) -> None:
    daemon = start(start_daemon, installed, NOTIFY_SOCKET=systemd.getsockname())
    running = queue.enqueue("shop.hold", fifo)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    assert queue.enqueue("shop.version").wait(10).return_value() == package.__version__
    old = daemon.zygote().pid
    assert told(systemd, []) == ["READY=1"]
    installed.upgrade("9.9.9")

    told_only = rqd("upgrade", "--no-wait", url=redis_url)
    assert told_only.status == 0, told_only
    # Some are always on their way, so that they are claimed before, at and after the exec.
    made, reports = [queue.enqueue("shop.version")], told(systemd, [])
    while "upgraded was=" not in daemon.log():
        made.append(queue.enqueue("shop.version"))
        made[-4:][0].wait(20)
        told(systemd, reports)
    eventually(lambda: " reloaded " in daemon.log(), message=daemon.log)

    assert [job.wait(20).return_value() for job in made][-1] in ("9.9.9", package.__version__)
    assert {(job.get_status(), len(job.results())) for job in made} == {(JobStatus.FINISHED, 1)}
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    (row,) = there.views.masters()
    assert (row["version"], row["pid"]) == ("9.9.9", str(daemon.pid))
    eventually(lambda: "READY=1" in told(systemd, reports)[-1])
    assert reports[0] == "RELOADING=1"
    assert not [line for line in reports if line.startswith("MAINPID")]
    # The job that was there before has noticed nothing.
    assert old in [zygote.pid for zygote in daemon.zygotes()]
    Path(fifo).write_text("held")
    assert running.wait(10).return_value() == "held"
    (attempt,) = running.results()
    assert attempt.output == "begun\nended\n"
    eventually(lambda: old not in [zygote.pid for zygote in daemon.zygotes()])
    assert "put back" not in daemon.log()

    # What an operator has told it still holds.
    for signum, done in ((signal.SIGTTIN, "workers resized workers=3"), (signal.SIGUSR2, "paused")):
        daemon.signal(signum)
        eventually(lambda d=done: d in daemon.log())  # type: ignore[misc]  # bound now
    installed.edit("__init__.py", '"9.9.9"', '"10.0.0"')
    again = rqd("upgrade", url=redis_url)
    assert "upgraded to rqd 10.0.0 in" in again.out
    assert again.status == 0
    (row,) = there.views.masters()
    assert (row["version"], row["wanted"], row["state"]) == ("10.0.0", "3", "paused")
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def test_a_version_that_cannot_go_on_is_refused_and_the_old_one_serves_on(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    for file, good, bad, why in (
        ("daemon/jobs/dispatch.py", "class Dispatch", "class class Dispatch", "SyntaxError"),
        ("daemon/zygote/child.py", "import sys", "import no_such_module", "no_such_module"),
        # As where a version's own requirement was not installed with it.
        ("model/schedule.py", "from cronsim import", "from no_such import", "no_such"),
        (
            "daemon/zygote/frames.py",
            "FORMAT = 4",
            "FORMAT = 5",
            "stays as it is: rqd 0.1.0 can't go on where 0.1.0 is (formats 5 and 4): restart the",
        ),
        (
            "daemon/processes/worker.py",
            "    has_lived:",
            "    has_been:",
            "can't go on where 0.1.0 is",
        ),
    ):
        installed.edit(file, good, bad)

        ran = rqd("upgrade", url=redis_url)

        assert ran.status == 1, (file, ran)
        assert "refused, the old code serves on" in ran.out
        assert why in ran.out, file
        assert why in daemon.log()
        installed.edit(file, bad, good)
    assert queue.enqueue("shop.version").wait(10).return_value() == package.__version__
    assert "upgraded" not in daemon.log()
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


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
    for told in ("reload", "upgrade"):
        assert rqd(told, url=redis_url).status == 1
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
    path = installed.package / "cron.py"
    path.unlink()
    path.write_text("import rqd.connection\nrqd.connection.of_the_next_version()\n")
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
    told = "zygote is of another rqd than its master: rqd upgrade pid="
    assert daemon.log().count(told) == 1
    assert f"version=9.9.9 master={package.__version__}" in daemon.log()

    ran = rqd("upgrade", url=redis_url)
    assert ran.status == 0, ran
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    assert daemon.log().count(told) == 1


def test_a_zygote_that_its_master_does_not_understand_runs_no_job(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    installed.upgrade("9.9.9")
    installed.edit("daemon/zygote/frames.py", "FORMAT = 4", "FORMAT = 5")
    why = f"rqd itself is 9.9.9 by now, this master {package.__version__}: restart the daemon"
    assert f"the old code serves on:\n    {why}\n" in rqd("reload", url=redis_url).out
    daemon.zygote().kill()
    eventually(lambda: "zygote lost" in daemon.log())  # and with it its children, who wait for jobs
    job = queue.enqueue("shop.version")
    told = "zygote is of an rqd that its master can't work with: restart the daemon pid="
    eventually(lambda: daemon.log().count(told) == 3, 20.0, daemon.log)
    pauses = re.findall(r"zygote lost .*restart_in_s=([\d.]+)", daemon.log())
    assert pauses[:3] in (["0", "0.2", "0.4"], ["0.0", "0.2", "0.4"])  # and more each time
    assert job.get_status() is JobStatus.QUEUED
    daemon.titled(f"rqd: master [default] starting: {why}")
    eventually(lambda: f": no job starts: {why}\n" in rqd("info", url=redis_url).out, 10.0)
    assert why in rqd("upgrade", url=redis_url).out
    assert f"refused, no job starts:\n    {why}\n" in rqd("reload", url=redis_url).out

    installed.edit("daemon/zygote/frames.py", "FORMAT = 5", "FORMAT = 4")
    assert job.wait(20).return_value() == "9.9.9"
    daemon.titled("rqd: master [default] 0/2 busy")
    assert "no job starts" not in rqd("info", url=redis_url).out


def test_the_trial_of_a_new_version_dies_with_its_master(
    start_daemon: StartDaemon, redis_url: str, installed: Installed, tmp_path: Path
) -> None:
    daemon = start(start_daemon, installed)
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    main = (installed.package / "__main__.py").read_text()
    waiting = WAITING.replace("==", "!=").format(pid=daemon.pid, fifo=gate)
    installed.edit("__main__.py", main, waiting + main.partition('"""\n')[2])
    assert rqd("upgrade", "--no-wait", url=redis_url).status == 0
    with open(gate, "w"):  # the trial has come there
        daemon.tree()
        daemon.signal(signal.SIGKILL)
        eventually(lambda: daemon.leftovers() == [], 2.0, lambda: str(daemon.leftovers()))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_right_at_the_exec_is_obeyed(
    start_daemon: StartDaemon,
    queue: Queue,
    redis_url: str,
    installed: Installed,
    fifo: str,
    tmp_path: Path,
    signum: signal.Signals,
) -> None:
    daemon = start(start_daemon, installed)
    running = queue.enqueue("shop.hold", fifo)
    eventually(lambda: running.get_status() is JobStatus.STARTED)
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    main = (installed.package / "__main__.py").read_text()
    waiting = WAITING.format(pid=daemon.pid, fifo=gate)
    installed.edit("__main__.py", main, waiting + main.partition('"""\n')[2])
    daemon.tree()
    assert rqd("upgrade", "--no-wait", url=redis_url).status == 0
    with open(gate, "w"):  # the new program has come there
        daemon.signal(signum)
        if signum == signal.SIGKILL:
            eventually(lambda: daemon.leftovers() == [], 2.0, lambda: str(daemon.leftovers()))
            return

    eventually(lambda: "stopping how=graceful running=1" in daemon.log(), message=daemon.log)
    Path(fifo).write_text("held")
    assert daemon.wait() == 0
    assert running.return_value() == "held"
    assert daemon.leftovers() == []


def test_an_embedded_server_and_the_signing_keys_stay_with_the_master(
    start_daemon: StartDaemon, installed: Installed, tmp_path: Path
) -> None:
    url, key = f"embedded:{tmp_path / 'redis'}", "a-key-of-sixteen-characters-or-more"
    daemon = start_daemon(
        *("--require-signed", "--preload", "shop"),
        url=url,
        cwd=installed.folder,
        env={**installed.env, "RQD_SIGNING_KEY": key},
    )
    there = Backend(Store(client_connection(url)), url, Keyring([key]))
    queue = Queue(connection=there)
    assert queue.enqueue("shop.version").wait(10).return_value() == package.__version__
    server = [p.pid for p in daemon.tree() if "server" in p.name()]
    installed.upgrade("9.9.9")

    ran = rqd("upgrade", url=url, env={"RQD_SIGNING_KEY": key})

    assert ran.status == 0, (ran, daemon.log())
    assert [p.pid for p in daemon.tree() if "server" in p.name()] == server
    assert len(server) == 1
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    os.kill(server[0], signal.SIGKILL)  # it is seen, reaped and replaced
    eventually(lambda: "redis is back" in daemon.log(), 10.0, daemon.log)
    assert queue.enqueue("shop.version").wait(10).return_value() == "9.9.9"
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def test_a_paused_master_is_paused_after_an_upgrade(
    start_daemon: StartDaemon, queue: Queue, redis_url: str, installed: Installed
) -> None:
    daemon = start(start_daemon, installed)
    daemon.signal(signal.SIGUSR2)
    eventually(lambda: "paused" in daemon.log())
    installed.upgrade("9.0.0")
    assert rqd("upgrade", url=redis_url).status == 0
    waiting = queue.enqueue("shop.version")
    daemon.titled("rqd: master [default] paused 0/2 busy")
    assert waiting.get_status() is JobStatus.QUEUED
    daemon.signal(signal.SIGCONT)
    assert waiting.wait(10).return_value() == "9.0.0"


def test_what_children_were_given_ahead_runs_once_across_an_upgrade(
    start_daemon: StartDaemon, installed: Installed, queue: Queue, tmp_path: Path, redis_url: str
) -> None:
    start(start_daemon, installed, "--jobs-per-child", "1000")
    notes = tmp_path / "notes"
    queue.enqueue_many(
        [queue.prepare_data("shop.note", (str(notes), str(number))) for number in range(8000)]
    )
    eventually(lambda: has_text(notes))

    assert rqd("upgrade", url=redis_url).status == 0

    assert queue.count > 0
    eventually(lambda: queue.finished_job_registry.count == 8000, 20)
    assert sorted(map(int, notes.read_text().split())) == [*range(8000)]
