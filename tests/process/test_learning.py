"""Learnt preloading in a real daemon: what its first jobs import, the next zygote has."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.job import Job
from rqd.model.signing import Keyring
from tests.cli.running import rqd
from tests.daemons import ROOT, Daemon, StartDaemon
from tests.processes import found_first
from tests.waiting import eventually

WAIT_S = 15.0
KEY = "a-key-of-enough-characters"
LEARNT = "preloads what jobs import"
REFUSED = "is not preloaded by itself"
# A module that notes each of its imports, and takes 30 ms for it.
SLOW = """
import os, time
with open({notes!r}, "a") as notes: notes.write(f"{{os.getpid()}}\\n")
time.sleep(0.03)
def work(number=0): return number
"""


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """Where the module `slow` notes its imports; a daemon finds it by its working folder."""
    notes = tmp_path / "imports"
    notes.touch()
    (tmp_path / "slow.py").write_text(SLOW.format(notes=str(notes)))
    return notes


def run(queue: Queue, name: str = "slow.work", count: int = 4) -> None:
    jobs: list[Job[int]] = [queue.enqueue(name) for _ in range(count)]
    for job in jobs:
        result = job.latest_result(timeout=WAIT_S)
        assert result is not None
        assert result.type.value == "successful", result.exc_string


def has_learnt(daemon: Daemon) -> None:
    eventually(lambda: LEARNT in daemon.log(), WAIT_S, daemon.log)
    # Idle children of the zygote before it may still be there.
    eventually(lambda: len(daemon.zygotes()) == 1, WAIT_S, daemon.state)


def test_what_jobs_import_is_imported_once_for_all_that_come_later(
    start_daemon: StartDaemon, queue: Queue, imports: Path, tmp_path: Path, redis_url: str
) -> None:
    daemon = start_daemon("--name", "learner", workers=2, cwd=tmp_path)
    first = daemon.zygote()
    run(queue)
    has_learnt(daemon)
    zygote = daemon.zygote()
    assert zygote != first
    assert " ".join(zygote.cmdline()).startswith("rqd: zygote (slow)")
    assert str(zygote.pid) in imports.read_text().split()
    before = imports.read_text()
    run(queue, count=20)
    assert imports.read_text() == before
    eventually(
        lambda: "learner: preloads what jobs import: slow" in rqd("info", url=redis_url).out, WAIT_S
    )
    # A reload has it, as it is by then; no job's process imports it again.
    assert rqd("reload", url=redis_url).status == 0
    before = imports.read_text()
    run(queue, count=20)
    assert imports.read_text() == before
    assert "imported its module itself" not in daemon.log()


def test_a_running_job_goes_on_while_its_module_is_learnt(
    start_daemon: StartDaemon, queue: Queue, imports: Path, tmp_path: Path, fifo: str
) -> None:
    daemon = start_daemon("--path", ".", "--path", str(ROOT), workers=2, cwd=tmp_path)
    held = queue.enqueue("tests.jobs.hold", fifo)
    eventually(lambda: held.is_started, WAIT_S)
    run(queue)
    eventually(lambda: LEARNT in daemon.log(), WAIT_S, daemon.log)
    run(queue)
    assert held.is_started
    with open(fifo, "w"):
        pass
    assert held.latest_result(timeout=WAIT_S) is not None
    assert held.is_finished
    assert len(held.results()) == 1


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()", "threads"),
        ("import socket; s = socket.create_connection(('127.0.0.1', {port}))", "127.0.0.1"),
        ("if os.getppid() == {master}: raise ImportError('not here')", "ImportError: not here"),
    ],
    ids=["threads", "connections", "an import that fails"],
)
def test_what_a_fork_does_not_bear_is_not_preloaded_and_said_once(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, imports: Path, code: str, why: str
) -> None:
    daemon = start_daemon(workers=2, cwd=tmp_path)
    serving = daemon.zygote()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unfit = code.format(port=listener.getsockname()[1], master=daemon.pid)
        module = tmp_path / "slow.py"
        module.write_text(f"{module.read_text()}{unfit}\n")
        run(queue)
        eventually(lambda: REFUSED in daemon.log(), WAIT_S, daemon.log)
        (line,) = [line for line in daemon.log().splitlines() if REFUSED in line]
        assert why in line
        run(queue, count=8)
        assert daemon.log().count(REFUSED) == 1
        eventually(lambda: daemon.zygotes() == [serving], WAIT_S, daemon.state)
        assert LEARNT not in daemon.log()


def test_without_it_each_job_imports_its_module_and_is_told_what_to_preload(
    start_daemon: StartDaemon, queue: Queue, imports: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text((tmp_path / "slow.py").read_text() + "time.sleep(0.03)\n")
    daemon = start_daemon("--no-preload-learn", workers=1, cwd=tmp_path)
    run(queue, count=6)
    assert len(imports.read_text().split()) == 6
    assert "imported its module itself" in daemon.log()
    assert len(daemon.zygotes()) == 1


def test_an_unsigned_job_teaches_nothing_where_there_are_keys(
    start_daemon: StartDaemon, there: Backend, imports: Path, tmp_path: Path
) -> None:
    daemon = start_daemon(workers=1, cwd=tmp_path, env={"RQD_SIGNING_KEY": KEY})
    run(Queue(connection=there), count=6)
    assert len(imports.read_text().split()) == 6
    run(Queue(connection=Backend(there.store, there.url, Keyring([KEY]))))
    has_learnt(daemon)


def test_a_name_that_is_not_on_the_list_teaches_nothing_though_its_job_is(
    start_daemon: StartDaemon, there: Backend, imports: Path, tmp_path: Path
) -> None:
    """Whoever writes to Redis can name another module beside an allowed payload."""
    (tmp_path / "evil.py").write_text(imports.with_name("slow.py").read_text())
    daemon = start_daemon("--allow", "slow.*", workers=1, cwd=tmp_path)
    queue = Queue(connection=there)
    daemon.signal(signal.SIGUSR2)  # a pause: no job starts before its record says another name
    eventually(lambda: there.views.masters()[0]["state"] == "paused", WAIT_S)
    jobs: list[Job[int]] = [queue.enqueue("slow.work") for _ in range(4)]
    for job in jobs:
        there.redis.hset(there.store.keys.job(job.id), "func_name", "evil.work")
    daemon.signal(signal.SIGCONT)
    for job in jobs:
        assert job.latest_result(timeout=WAIT_S) is not None
    assert len(imports.read_text().split()) == 4
    run(queue)
    has_learnt(daemon)
    daemon.titled("rqd: zygote (slow)")
    assert "evil" not in "".join(daemon.titles())


CALLER = """
import slow
from rqd import Queue, Worker, use_redis

use_redis()
jobs = [Queue("low").enqueue(slow.work, number) for number in range(6)]
assert Worker(["low"]).work()
print([job.return_value() for job in jobs])
"""


def test_a_worker_begins_with_what_its_caller_has_imported(
    redis_url: str, imports: Path, tmp_path: Path
) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    ran = subprocess.run(
        [sys.executable, "caller.py"],
        cwd=tmp_path,
        env={**found_first(ROOT), "RQD_URL": redis_url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "[0, 1, 2, 3, 4, 5]\n"
    assert len(imports.read_text().split()) == 2  # the caller's own, and its zygote's


def test_a_module_that_ends_its_zygote_is_refused_and_jobs_run_on(
    start_daemon: StartDaemon, queue: Queue, imports: Path, tmp_path: Path
) -> None:
    daemon = start_daemon(workers=2, cwd=tmp_path)
    serving = daemon.zygote()
    guard = f"import os\nif os.getppid() == {daemon.pid}: os._exit(3)\n"
    (tmp_path / "slow.py").write_text(guard + (tmp_path / "slow.py").read_text())
    run(queue)
    eventually(lambda: REFUSED in daemon.log(), WAIT_S, daemon.log)
    run(queue)
    assert daemon.zygote() == serving
    assert psutil.pid_exists(serving.pid)
