"""`--user`: a daemon that root starts is, with all it starts, another user's."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from rqd import Job, Queue
from rqd.client.connection import Backend
from rqd.results import Result
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import ROOT, StartDaemon
from tests.lacking import needs_root
from tests.servers import RedisServer
from tests.waiting import eventually

WAIT_S = 10.0
USER = "nobody"
# An interpreter in root's home is of no use to nobody: another one, with redis, psutil, click and
# setproctitle, can be named by this variable.
PYTHONS = [sys.executable, os.environ.get("RQD_TEST_PYTHON", "/usr/bin/python3")]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def account() -> pwd.struct_passwd:
    needs_root()
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"needs a user {USER}")


@pytest.fixture(scope="module")
def python(account: pwd.struct_passwd) -> str:
    """An interpreter that this user can execute, with what rqd needs."""
    for candidate in PYTHONS:
        try:
            probe = subprocess.run(
                [
                    candidate,
                    "-c",
                    "import rqd.daemon.master, sys; assert sys.version_info[1] > 10",
                ],
                env=ENVIRONMENT,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                cwd=ROOT,
                capture_output=True,
                timeout=20,
            )
        except OSError:
            continue
        if probe.returncode == 0:
            return candidate
    pytest.skip(f"needs an interpreter and a checkout that the user {USER} can reach")


@pytest.fixture
def url(own_server: RedisServer) -> str:
    """A server that others than root can reach."""
    own_server.folder.chmod(0o711)
    own_server.socket_path.chmod(0o777)
    return own_server.url


@pytest.fixture
def theirs(url: str) -> Queue:
    return Queue(connection=Backend(Store(client_connection(url)), url))


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None, f"{job} is {job.get_status()}"
    return result


def test_master_zygote_and_jobs_are_the_users_and_stay_so(
    start_daemon: StartDaemon, theirs: Queue, url: str, python: str, account: pwd.struct_passwd
) -> None:
    daemon = start_daemon("--user", USER, url=url, python=python, env=ENVIRONMENT)
    job = theirs.enqueue(jobs.rights)
    told = ended(job).return_value
    everyone = [psutil.Process(daemon.pid), *daemon.tree()]
    assert len(everyone) >= 3
    for process in everyone:
        assert set(process.uids()) == {account.pw_uid}
        assert set(process.gids()) == {account.pw_gid}
        status = Path(f"/proc/{process.pid}/status").read_text()
        groups = status.partition("Groups:")[2].partition("\n")[0].split()
        assert "0" not in groups
        assert "CapEff:\t0000000000000000" in status
    assert told == {"uid": account.pw_uid, "home": account.pw_dir, "user": USER, "root": False}


def test_causes_and_measures_are_as_ever(
    start_daemon: StartDaemon, theirs: Queue, url: str, python: str
) -> None:
    daemon = start_daemon("--user", USER, url=url, python=python, env=ENVIRONMENT)
    crashed = ended(theirs.enqueue(jobs.segfault))
    assert (crashed.cause or "").startswith("crashed: SIGSEGV")
    assert "in segfault" in (crashed.stack or "")
    held = theirs.enqueue(jobs.hog_and_wait, 60_000_000)
    eventually(lambda: held.is_started, WAIT_S)
    seen = eventually(lambda: rows_with_memory(url), WAIT_S)
    assert seen["masters"][0]["rss_bytes"] > 0
    process = daemon.titled("rqd: worker 1 tests.jobs.hog_and_wait")
    eventually(lambda: process.memory_info().rss > 60_000_000, WAIT_S)
    # The kernel hides what changed its user; jobs came by exec after that, and are seen into.
    assert owner_of(f"/proc/{process.pid}/smaps_rollup") == pwd.getpwnam(USER).pw_uid
    if Path("/proc/sys/fs/suid_dumpable").read_text().strip() == "0":
        assert owner_of(f"/proc/{daemon.pid}/mem") == 0
    process.send_signal(signal.SIGKILL)
    assert ended(held).cause == "crashed: SIGKILL"
    assert ended(held).details["peak_memory_bytes"] > 50_000_000
    assert daemon.stop() == 0
    assert daemon.leftovers() == []


def owner_of(path: str) -> int:
    return Path(path).stat().st_uid


def rows_with_memory(url: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(rqd("info", "--json", url=url).out)
    return told if told["masters"] and told["masters"][0].get("rss_bytes") else {}


@pytest.mark.parametrize("part", ["master", "zygote"])
def test_nothing_of_a_job_outlives_a_killed_process(
    start_daemon: StartDaemon, theirs: Queue, url: str, python: str, part: str
) -> None:
    daemon = start_daemon("--user", USER, url=url, python=python, env=ENVIRONMENT)
    job = theirs.enqueue(jobs.run_for_ever)
    eventually(lambda: job.is_started, WAIT_S)
    worker = daemon.titled("rqd: worker 1 tests.jobs.run_for_ever")
    daemon.titled(f"rqd: {part}").kill()
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, WAIT_S)


def test_only_root_can_become_another_user(python: str, account: pwd.struct_passwd) -> None:
    ran = subprocess.run(
        [python, "-m", "rqd", "start", "--user", USER],
        env=ENVIRONMENT,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    told = "rqd: --user nobody needs root: start as root, or as nobody without it\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (64, "", told)


def test_keys_that_only_root_can_read_are_read_before_roots_rights_go(
    start_daemon: StartDaemon, theirs: Queue, url: str, python: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-enough-characters\n")
    file.chmod(0o400)
    env = {**ENVIRONMENT, "RQD_SIGNING_KEY_FILE": str(file)}
    start_daemon("--user", USER, "--require-signed", url=url, python=python, env=env)
    assert ended(theirs.enqueue(jobs.multiply, 1, 2)).cause == "refused: not signed"
