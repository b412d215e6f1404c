"""Settings are read again at a reload: what can change does, and a broken file changes nothing."""

import os
import signal
from pathlib import Path

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from tests.cli.running import rqd
from tests.daemons import Daemon, StartDaemon
from tests.waiting import eventually

SHOP = "import os\ndef pid(): return os.getpid()\ndef price(): return 100\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    return folder


def start(start_daemon: StartDaemon, folder: Path, *extra: str) -> Daemon:
    """A daemon whose settings, all but the URL, come from the file."""
    return start_daemon(*extra, cwd=folder, queues="", workers=0)


def test_a_reload_takes_what_can_change_from_the_file_and_says_what_cannot(
    start_daemon: StartDaemon, there: Backend, redis_url: str, folder: Path
) -> None:
    file = folder / "rqd.toml"
    file.write_text('queues = ["old"]\nworkers = 1\npreload = "shop"\nname = "first"\n')
    daemon = start(start_daemon, folder, "--grace", "7")
    master = there.views.masters()[0]
    assert (master["queues"], master["name"]) == ("old", "first")
    assert Queue("old", connection=there).enqueue("shop.price").wait(10).return_value() == 100
    file.write_text(
        'queues = ["new", "old"]\nworkers = 2\njobs-per-child = 1000\nname = "second"\ngrace = 1\n'
    )

    daemon.signal(signal.SIGHUP)

    changed = "settings changed settings=queues,workers,preload,jobs-per-child\n"
    eventually(lambda: changed in daemon.log(), message=daemon.log)
    assert "these settings need a restart settings=name\n" in daemon.log()
    new = Queue("new", connection=there)
    pids = [new.enqueue("shop.pid").wait(10).return_value() for _ in range(6)]
    assert len(set(pids)) <= 2, "each process takes many jobs"
    rows = there.views.masters()
    assert [(row["queues"], row["name"], row["wanted"]) for row in rows] == [
        ("new,old", "first", "2")
    ]
    # Nothing is lost for what was there before.
    assert Queue("old", connection=there).enqueue("shop.price").wait(10).return_value() == 100
    for broken, told in (
        ("workers = nine\n", "is no TOML"),
        ('preload = "no_such_module"\n', "No module named 'no_such_module'"),
    ):
        file.write_text(broken)
        ran = rqd("reload", url=redis_url)
        assert ran.status == 1, ran
        assert "refused, the old code serves on" in ran.out
        assert told in ran.out
    # The refused ones are not for a zygote that has to be replaced, either.
    os.kill(daemon.zygote().pid, signal.SIGKILL)
    assert new.enqueue("shop.price").wait(10).return_value() == 100
    assert [row["wanted"] for row in there.views.masters()] == ["2"]


def test_workers_get_the_open_files_that_they_need_or_are_refused(
    start_daemon: StartDaemon, queue: Queue, redis_url: str
) -> None:
    # What 20 workers need; a process has 100 by itself.
    daemon = start_daemon(within=("prlimit", "--nofile=100:264"))
    assert rqd("scale", "20", url=redis_url).status == 0
    eventually(lambda: sum(" idle" in title for title in daemon.titles()) == 20, 20, daemon.log)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in daemon.log(), message=daemon.log)
    for too_many in (rqd("scale", "21", url=redis_url), rqd("scale", "+80", url=redis_url)):
        assert too_many.status == 1
        assert "open files, 264 are allowed: ulimit -Hn" in too_many.out
    daemon.signal(signal.SIGTTIN)
    eventually(lambda: daemon.log().count("workers not resized") == 3, message=daemon.log)
    assert queue.enqueue("os.getpid").wait(10).return_value()
    assert "lost" not in daemon.log()

    daemon = start_daemon(workers=21, within=("prlimit", "--nofile=100:264"))
    assert daemon.wait() == 64, daemon.log()
    assert "--workers 21: they need 274 open files, 264 are allowed" in daemon.log()
