"""`rqd doctor`: what it sees, and what it says to do."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue
from rqd.cli.diagnose import Standing, judge_work
from rqd.client.connection import Backend, backend_for
from rqd.daemon.host.diagnostics import judge_delegation, judge_unit, read_timespan_s
from rqd.model.diagnosis import Verdict
from rqd.model.records import Claim
from rqd.store.crons import Crons
from rqd.store.messages import Beat, Settlement, Turn
from tests.cli.running import ROOT, Ran, rqd
from tests.client import work
from tests.client.performing import claim
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
    # A thread that ends at once, as a thread that was joined and is not gone yet.
    (tmp_path / "good.py").write_text(
        "import _thread, time\n_thread.start_new_thread(time.sleep, (0.05,))\n"
    )
    (tmp_path / "bad.py").write_text(
        "import socket, threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "near = socket.create_connection(server.getsockname())\n"
        "far = server.accept()[0]\n"
        "pair = socket.socketpair()  # without a peer's address, as an event loop has it\n"
    )
    arguments = ("doctor", "--preload", "good,bad")
    ran = rqd(*arguments, url=redis_url, env={"COLUMNS": "500"}, folder=tmp_path)
    assert ran.status == 0, ran
    (good,) = (line for line in ran.out.splitlines() if "preload good" in line)
    assert "safe to fork" in good
    assert "starts 1 thread " in ran.out
    assert "opens 2 connections" in ran.out


def test_what_is_in_the_way_is_a_status_of_1(tmp_path: Path) -> None:
    arguments = ("doctor", "--preload", "nowhere", "--url", "redis://127.0.0.1:1")
    ran = rqd(*arguments, env={"COLUMNS": "500"}, folder=tmp_path)
    assert ran.status == 1, ran
    assert "failed  redis" in ran.out
    assert "ModuleNotFoundError: No module named 'nowhere'" in ran.out


def test_the_table_is_as_wide_as_the_terminal_and_loses_no_word(tmp_path: Path) -> None:
    arguments = ("doctor", "--url", "redis://127.0.0.1:1")
    narrow, wide = (
        rqd(*arguments, env={"COLUMNS": columns}, folder=tmp_path).out for columns in ("70", "500")
    )

    assert max(map(len, narrow.splitlines())) <= 70 < max(map(len, wide.splitlines()))
    assert sorted("".join(narrow.split())) == sorted("".join(wide.split()))


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
    assert advice == "rqd cron load loads it at once; so does a start, and rqd reload"

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


@pytest.fixture
def there(redis_url: str) -> Backend:
    return backend_for(redis_url)


def doctor(there: Backend, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    ran = rqd("doctor", "--json", *arguments, url=there.url, folder=folder)
    assert ran.err == ""
    return ran.status, seen(ran)


def serve(there: Backend, name: str, queues: str, **fields: Any) -> None:
    """A live master, as its heartbeats show it."""
    row: dict[str, Any] = {"host": "h", "state": "idle", "workers": 1, "queues": queues, **fields}
    there.store.hello(name, "boot", 600, row)
    there.store.beat(Beat(name, "boot", 15_000_000, 600, "", (), row, {}))


def test_before_the_first_start_it_is_no_fault_that_no_daemon_runs(
    there: Backend, tmp_path: Path
) -> None:
    status, found = doctor(there, tmp_path)
    told = "no daemon runs here yet, and no queue had a job"
    assert (status, found["daemons"]) == (0, (Verdict.OK, told, ""))

    Queue("mail", there).enqueue(work.multiply, 1)
    _, found = doctor(there, tmp_path, "--namespace", "other")
    advice = "are the jobs elsewhere? there is namespace rqd: --namespace"
    assert found["daemons"] == (Verdict.OK, told, advice)


def test_jobs_that_no_daemon_takes_are_in_the_way_and_it_says_what_to_write(
    there: Backend, tmp_path: Path
) -> None:
    for name in ("mail", "mail", "high"):
        Queue(name, there).enqueue(work.multiply, 1)

    status, found = doctor(there, tmp_path)
    assert status == 1
    assert found["daemons"] == (
        *(Verdict.FAILED, "no daemon is alive for 3 jobs"),
        "start a daemon: rqd start --queues high,mail",
    )
    verdict, told, advice = found["queue mail"]
    assert (verdict, advice) == (Verdict.FAILED, "rqd start --queues mail")
    assert re.fullmatch(r"no daemon serves it: 2 jobs, the first for \d+ s", told)

    serve(there, "web", "high")
    status, found = doctor(there, tmp_path)
    assert (status, found["daemons"]) == (1, (Verdict.OK, "1 alive: web idle", ""))
    assert "queue mail" in found
    assert "queue high" not in found

    serve(there, "more", "low,mail")
    status, found = doctor(there, tmp_path)
    assert (status, [one for one in found if one.startswith("queue ")]) == (0, [])
    assert found["queues"] == (Verdict.OK, "3 ready jobs, and daemons that run them", "")


def test_jobs_that_are_kept_waiting_are_told_with_what_ends_that(
    there: Backend, tmp_path: Path
) -> None:
    for name in ("mail", "high", "low"):
        Queue(name, there).enqueue(work.multiply, 1)
    serve(there, "web", "mail", state="paused")
    serve(there, "job", "high,low")
    Queue("high", there).pause()

    status, found = doctor(there, tmp_path)
    assert status == 0
    verdict, told, advice = found["queue mail"]
    assert (verdict, advice) == (Verdict.WARNING, "`rqd resume --master NAME` ends a pause")
    assert told.startswith("its daemons are paused or stop: 1 job, ")
    verdict, told, advice = found["queue high"]
    assert (verdict, advice) == (Verdict.WARNING, "`rqd resume high` ends that")
    assert told.startswith("queue high is paused: high has 1 job, ")
    assert "queue low" not in found

    rqd("pause", "--all", url=there.url)
    _, found = doctor(there, tmp_path)
    verdict, told, advice = found["queue low"]
    assert (verdict, advice) == (Verdict.WARNING, "`rqd resume --all` ends that")
    assert told.startswith("all work is suspended: low has 1 job, ")

    rqd("resume", "--all", url=there.url)
    serve(there, "job", "high,low", why_no_zygote="ImportError: shop")
    status, found = doctor(there, tmp_path)
    assert (status, found["queue low"][0]) == (1, Verdict.FAILED)
    assert found["queue low"][1].startswith("its daemons can start no job: 1 job, ")


def test_what_dead_daemons_hold_and_what_waits_for_a_key_is_told(
    there: Backend, tmp_path: Path
) -> None:
    queue = Queue(connection=there)
    for _ in range(2):
        queue.enqueue(work.multiply, 1)
    there.store.hello("gone", "boot", 600, {"host": "h"})
    held = claim(there, count=2)
    there.redis.zadd(there.store.keys.masters, {"gone": 1})
    there.redis.delete(there.store.keys.master("gone"))

    status, found = doctor(there, tmp_path)
    assert (status, found["daemons"][1]) == (1, "no daemon is alive for 2 jobs")
    verdict, told, advice = found["held jobs"]
    assert (verdict, advice.endswith(": rqd start")) == (Verdict.WARNING, True)
    assert told.startswith("2 jobs held by daemons that are gone (gone")

    for one in held:
        why = "parked: signed with key 1f2e3d4c, which this daemon lacks"
        turn_park(there, one, why)
    status, found = doctor(there, tmp_path)
    assert status == 0
    verdict, told, advice = found["parked jobs"]
    assert (verdict, "RQD_SIGNING_KEY" in advice) == (Verdict.WARNING, True)
    assert told == "2 jobs signed with key 1f2e3d4c, which this daemon lacks"
    assert found["daemons"][0] == Verdict.WARNING


def turn_park(there: Backend, held: Claim, why: str) -> None:
    fields = (("cause", why),)
    one = Settlement(held.id, held.token, held.worker, "park", 30_000_000, fields=fields)
    there.store.turn(Turn(there.store.request_id(), "m", 15_000_000, (one,)))


def test_a_namespace_that_is_not_rqds_is_told_beside_the_rest(
    there: Backend, tmp_path: Path
) -> None:
    there.redis.set(there.store.keys.masters, "not ours")

    status, found = doctor(there, tmp_path)

    assert (status, found["work"][0]) == (0, Verdict.WARNING)
    assert found["work"][1].startswith("can't be read: WRONGTYPE")
    assert "redis latency" in found


@pytest.mark.parametrize(
    ("state", "advice"),
    [("suspended", "rqd resume --all"), ("paused", "rqd resume --master NAME")],
)
def test_daemons_that_all_start_no_jobs_are_seen_though_no_job_waits(
    state: str, advice: str
) -> None:
    (found,) = judge_work(Standing(masters=[{"name": "web", "state": state}]))
    assert (found.verdict, found.seen) == (
        Verdict.WARNING,
        f"1 alive, all paused: web {state}",
    )
    assert advice in found.advice
    both = [{"name": "web", "state": state}, {"name": "api", "state": "idle"}]
    (found,) = judge_work(Standing(masters=both))
    assert found.verdict is Verdict.OK
