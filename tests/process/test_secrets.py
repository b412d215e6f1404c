"""A password and a signing key are nowhere to be read but where they have to be."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rqd import Job, Queue
from rqd.client.connection import Backend
from rqd.model.signing import Keyring
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests import jobs
from tests.cli.running import ROOT, rqd
from tests.daemons import Daemon, StartDaemon
from tests.servers import RedisServer
from tests.waiting import eventually

WAIT_S = 10.0
PASSWORD, KEY = "a-pass-word-of-ours", "a-signing-key-of-ours-too"


def command_lines(daemon: Daemon) -> str:
    """What ps shows of the daemon's processes, by `/proc` as ps does."""
    pids = [daemon.pid, *(process.pid for process in daemon.tree())]
    return "\n".join(
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in pids
    )


def test_neither_titles_nor_logs_nor_tables_nor_tracebacks_show_a_secret(
    start_daemon: StartDaemon, own_server: RedisServer, fifo: str
) -> None:
    own_server.command(f"CONFIG SET requirepass {PASSWORD}")
    url = own_server.url.replace("unix://", f"unix://:{PASSWORD}@")
    there = Backend(Store(client_connection(url)), url, Keyring([KEY]))
    queue = Queue(connection=there)
    env = {"RQD_SIGNING_KEY": KEY}
    daemon = start_daemon("--require-signed", url=url, env=env)
    failed: Job[Any] = queue.enqueue(jobs.leave, 3, job_id="failed")
    unsigned: Job[Any] = Queue(connection=Backend(there.store, url)).enqueue(jobs.fail)
    raised: Job[Any] = queue.enqueue(jobs.fail)
    eventually(lambda: all(one.is_failed for one in (failed, unsigned, raised)), WAIT_S)
    held = queue.enqueue(jobs.hold, fifo)
    daemon.titled("rqd: worker 1 tests.jobs.hold")
    daemon.titled("rqd: master [default] 1/1 busy")
    shown = [command_lines(daemon)]
    assert "rqd: master [default] 1/1 busy" in shown[0]
    assert "rqd: zygote" in shown[0]
    for command in (
        ("info",),
        ("info", "--json"),
        ("job", "failed"),
        ("job", "failed", "--json"),
        ("job", unsigned.id),
        ("enqueue", "tests.jobs.multiply", ":1", ":2"),
    ):
        ran = rqd(*command, url=url, env=env)
        assert ran.status == 0, ran
        shown += [ran.out, ran.err]
    shown += [repr(there), repr(queue), repr(held), str(raised.exc_info)]
    own_server.kill()
    Path(fifo).write_text("go on")
    eventually(lambda: "redis is gone" in daemon.log(), WAIT_S)
    for command in (("info",), ("enqueue", "tests.jobs.multiply")):
        shown.append(rqd(*command, url=url, env=env).err)
    shown.append(traceback_of("Queue().enqueue(len, 'x')", url))
    daemon.signal(signal.SIGQUIT)
    daemon.wait()
    shown.append(daemon.log())
    everything = "\n".join(shown)
    assert "redis is gone" in everything
    assert "Traceback" in everything
    assert PASSWORD not in everything
    assert KEY not in everything


def test_a_client_that_is_given_rubbish_shows_none_of_it() -> None:
    for url in (f"http://:{PASSWORD}@h", f"redis://h?password={PASSWORD}&db=x"):
        assert PASSWORD not in traceback_of("Queue().count", url)


def traceback_of(program: str, url: str) -> str:
    """What a client's uncaught error shows."""
    ran = subprocess.run(
        [sys.executable, "-c", f"from rqd import *; use_redis(); {program}"],
        cwd=ROOT,
        env={"RQD_URL": url, "RQD_SIGNING_KEY": KEY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "Traceback" in ran.stderr, ran
    return ran.stderr


def test_a_daemon_keeps_no_key_in_its_environment_for_what_it_starts(
    start_daemon: StartDaemon, there: Backend
) -> None:
    start_daemon(env={"RQD_SIGNING_KEY": KEY, "RQD_SIGNING_KEY_FILE": "/no/such"})
    queue = Queue(connection=there)
    for name in ("RQD_SIGNING_KEY", "RQD_SIGNING_KEY_FILE"):
        job = queue.enqueue(jobs.environment, name)
        assert job.latest_result(timeout=WAIT_S) is not None
        assert job.is_finished
        assert job.return_value() is None


def test_a_worker_from_python_hands_its_keys_on(redis_url: str) -> None:
    program = (
        "from rqd import Queue, Worker, use_redis; import tests.jobs;"
        f" use_redis({redis_url!r}, signing_keys=[{KEY!r}]);"
        " job = Queue().enqueue(tests.jobs.multiply, 6, 7);"
        " Worker([Queue()]).work(); print(job.return_value())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert ran.stdout == "42\n", ran
    assert KEY not in ran.stderr
