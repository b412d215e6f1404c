"""`rqd doctor`: what it sees, and what it says to do."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rqd.daemon.host.examination import judge_delegation, judge_unit, read_timespan_s
from rqd.model.finding import Verdict
from rqd.store.crons import Crons
from tests.cli.running import ROOT, Ran, rqd
from tests.servers import RedisServer, default_binary, running_server
from tests.store.driving import Driver


def seen(ran: Ran) -> dict[str, tuple[str, str, str]]:
    rows = json.loads(ran.out)
    return {row["what"]: (row["verdict"], row["seen"], row["advice"]) for row in rows}


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """A server whose settings may be changed."""
    with running_server(default_binary()) as server:
        yield server


def test_a_server_that_loses_jobs_is_seen(own_server: RedisServer, tmp_path: Path) -> None:
    own_server.command("CONFIG SET appendonly no")
    own_server.command("CONFIG SET maxmemory-policy allkeys-lru")
    own_server.command("CONFIG SET maxmemory 512mb")
    ran = rqd("doctor", "--json", url=own_server.url, folder=tmp_path)
    assert ran.status == 0, ran
    found = seen(ran)
    assert found["redis persistence"][0] == Verdict.WARNING
    assert "appendonly yes" in found["redis persistence"][2]
    assert found["redis eviction"][:2] == (Verdict.WARNING, "allkeys-lru")
    assert found["redis memory"][1].endswith(" of 512 MiB")
    assert found["redis version"][0] == found["redis permissions"][0] == Verdict.OK

    own_server.command("CONFIG SET appendonly yes")
    own_server.command("CONFIG SET maxmemory-policy noeviction")
    own_server.command("CONFIG SET maxmemory 0")
    found = seen(rqd("doctor", "--json", url=own_server.url, folder=tmp_path))
    assert found["redis persistence"][0] == found["redis eviction"][0] == Verdict.OK


def test_too_few_open_files_are_in_the_way_as_they_are_of_a_start(redis_url: str) -> None:
    def limited(command: str) -> "subprocess.CompletedProcess[str]":
        line = f"ulimit -n 100; exec {sys.executable} -m rqd {command} --workers 50"
        return subprocess.run(
            ["bash", "-c", f"{line} --url {redis_url}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
        )

    assert limited("start").returncode == 64
    ran = limited("doctor --json")
    assert ran.returncode == 1
    found = seen(Ran(ran.returncode, ran.stdout, ran.stderr))["open files"]
    assert found[:2] == (Verdict.FAILED, "100")
    assert found[2].startswith("50 workers need 564: ulimit -Hn")


def test_what_does_not_bear_a_fork_is_named_by_its_module(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("")
    (tmp_path / "bad.py").write_text(
        "import socket, threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "near, far = socket.socketpair()\n"
    )
    ran = rqd("doctor", "--preload", "good,bad", url=redis_url, folder=tmp_path)
    assert ran.status == 0, ran
    (good,) = (line for line in ran.out.splitlines() if "preload good" in line)
    assert "safe to fork" in good
    assert "starts 1 thread " in ran.out
    assert "opens 2 connections" in ran.out


def test_what_is_in_the_way_is_a_status_of_1(tmp_path: Path) -> None:
    ran = rqd("doctor", "--preload", "nowhere", "--url", "redis://127.0.0.1:1", folder=tmp_path)
    assert ran.status == 1, ran
    assert "failed  redis" in ran.out
    assert "ModuleNotFoundError: No module named 'nowhere'" in ran.out


def test_few_descriptors_for_many_workers_are_seen(redis_url: str, tmp_path: Path) -> None:
    found = seen(rqd("doctor", "--json", "--workers", "1000", url=redis_url, folder=tmp_path))
    few = int(found["open files"][1].replace(",", "")) < 8064
    assert (found["open files"][0] == Verdict.FAILED) is few


def test_a_unit_that_would_not_let_the_daemon_work_is_seen() -> None:
    good = {"TimeoutStopUSec": "45s", "KillMode": "mixed", "NotifyAccess": "main", "Type": "notify"}
    assert {one.verdict for one in judge_unit("rqd.service", good, 30)} == {Verdict.OK}
    bad = good | {"NotifyAccess": "none", "KillMode": "control-group", "Type": "simple"}
    found = list(judge_unit("rqd.service", bad, 85))
    assert [one.verdict for one in found] == [Verdict.WARNING] * 3
    assert found[0].advice.endswith("NotifyAccess=main, or TimeoutStopSec=95")


def test_a_grace_longer_than_the_units_timeout_is_well_where_the_daemon_may_ask_for_time() -> None:
    unit = {"TimeoutStopUSec": "45s", "KillMode": "mixed", "NotifyAccess": "main", "Type": "notify"}
    assert {one.verdict for one in judge_unit("rqd.service", unit, 600)} == {Verdict.OK}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("1min 30s", 90), ("2h", 7200), ("500ms", 0.5), ("infinity", float("inf"))],
)
def test_a_timespan_of_systemctl(text: str, seconds: float) -> None:
    assert read_timespan_s(text) == seconds


def test_it_says_who_holds_jobs_to_their_limits(redis_url: str, tmp_path: Path) -> None:
    found = seen(rqd("doctor", "--json", url=redis_url, folder=tmp_path))
    assert found["control groups"][0] == found["kernel's OOM kills"][0] == Verdict.OK
    assert "not used" in found["control groups"][1]

    # A shell that has been given a group for itself alone is rare; but it may be.
    limits = ("--max-memory", "512M", "--max-pids", "50")
    verdict, told, advice = seen(rqd("doctor", "--json", *limits, url=redis_url, folder=tmp_path))[
        "control groups"
    ]
    if verdict == Verdict.OK:
        assert "held by the kernel in /" in told
    else:
        assert "memory, pids: not held by the kernel" in told
        assert "Delegate=yes" in advice


def test_a_unit_without_delegation_is_seen() -> None:
    assert judge_delegation("rqd.service", {"Delegate": "yes"}).verdict is Verdict.OK
    found = judge_delegation("rqd.service", {"Delegate": "no"})
    assert (found.verdict, found.seen) == (Verdict.WARNING, "no")


def test_the_folder_of_locks_is_the_one_that_a_master_would_have(
    redis_url: str, tmp_path: Path
) -> None:
    def told(**env: str) -> tuple[str, str, str]:
        return seen(rqd("doctor", "--json", url=redis_url, env=env))["folder of locks"]

    own = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert told(**own)[:2] == (Verdict.OK, f"{tmp_path}/state/rqd/masters")
    unit = {**own, "STATE_DIRECTORY": f"{tmp_path}/unit:/other"}
    assert told(**unit)[:2] == (Verdict.OK, f"{tmp_path}/unit/masters")
    verdict, shown, advice = told(XDG_STATE_HOME="", HOME="~")
    assert (verdict, shown) == (Verdict.WARNING, "there is no home for the locks of masters")
    assert "XDG_STATE_HOME" in advice


CRON_FILE = """
[tick]
func = "tests.jobs.instant"
interval = 60
queue = "unserved"

[yearly]
func = "tests.jobs.echo"
cron = "@yearly"
"""


def test_cron_entries_that_run_nowhere_are_named(redis_url: str, tmp_path: Path) -> None:
    path, driver = tmp_path / "cron.toml", Driver(redis_url)
    path.write_text(CRON_FILE)

    def told() -> dict[str, tuple[str, str, str]]:
        ran = rqd("doctor", "--json", "--cron", str(path), url=redis_url, folder=tmp_path)
        assert ran.status == 0, ran
        return {what: row for what, row in seen(ran).items() if what.startswith("cron")}

    verdict, shown, advice = told()["cron file"]
    assert (verdict, shown) == (Verdict.WARNING, "not in Redis: tick, yearly")
    assert advice == "a start and rqd reload load it, rqd cron load does it at once"

    assert rqd("cron", "load", str(path), url=redis_url).status == 0
    driver.beat()
    driver.redis.hset("{rqd}:master:m", "queues", "high,default")
    found = told()
    assert found["cron file"] == (Verdict.OK, "its entries are all in Redis", "")
    assert found["cron queues"][:2] == (Verdict.WARNING, "no daemon serves unserved, for tick")
    assert "cron overdue" not in found

    due = datetime.now(UTC) - timedelta(seconds=61)
    driver.redis.zadd(driver.keys.crons, {"yearly": int(due.timestamp() * 1e6)})
    driver.redis.hset(driver.keys.cron("tick"), "error", "no schedule")
    found = told()
    assert found["cron overdue"][:2] == (Verdict.WARNING, f"yearly, due {due:%Y-%m-%d %H:%M:%SZ}")
    assert found["cron broken"][:2] == (Verdict.WARNING, "tick: no schedule")

    for entry in Crons(driver.store).all():
        Crons(driver.store).pause(entry)
    assert set(told()) == {"cron file", "cron broken"}
    path.write_text("")
    driver.redis.flushdb()
    assert told() == {"cron file": (Verdict.OK, "its entries are all in Redis", "")}
