"""The pages for operators: running jobs, masters by host, cron entries, limits."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import rqd.client.masters
from rqd import Queue, RateLimit
from rqd.client.connection import Backend
from rqd.client.cron import register
from rqd.store.connection import client_connection
from rqd.store.store import Store
from rqd.web.access import Access
from tests.daemons import Daemon
from tests.waiting import eventually
from tests.web.conftest import Open, token_in

LIMIT_S = 10.0
StartDaemon = Callable[..., Daemon]


def queue_at(url: str, name: str = "default") -> Queue:
    return Queue(name, Backend(Store(client_connection(url)), url))


def done(client: TestClient, action: str, /, **fields: str) -> str:
    """Does an action from the page Hosts or Cron; returns the page that follows."""
    page = "/cron" if action.startswith("cron") else "/hosts"
    token = token_in(client.get(page).text)
    return client.post(f"/do/{action}", data={"token": token, "back": page, **fields}).text


def master_row(client: TestClient) -> dict[str, Any]:
    (host,) = client.get("/hosts.json").json()["hosts"]
    (row,) = host["masters"]
    return dict(row)


def test_running_shows_a_job_with_its_worker_and_stops_it(
    dashboard: Open, redis_url: str, start_daemon: StartDaemon
) -> None:
    start_daemon("--name", "one")
    job = queue_at(redis_url).enqueue("time.sleep", 60)
    client = dashboard()

    eventually(lambda: client.get("/running.json").json()["jobs"], LIMIT_S)
    (row,) = client.get("/running.json").json()["jobs"]
    assert (row["id"], row["function"], row["worker"]) == (job.id, "time.sleep", "one:1")
    html = client.get("/running").text
    assert job.id in html
    client.post("/do/stop", data={"token": token_in(html), "id": job.id, "grace": "0"})
    eventually(lambda: job.get_status() == "stopped", LIMIT_S)


def test_running_refuses_an_unknown_order(dashboard: Open) -> None:
    answer = dashboard().get("/running?sort=luck")

    assert answer.status_code == 400
    assert "choose time, cpu, memory, queue" in answer.text


def test_running_hides_the_jobs_of_hidden_queues(
    dashboard: Open, redis_url: str, start_daemon: StartDaemon
) -> None:
    start_daemon()
    job = queue_at(redis_url).enqueue("time.sleep", 60)
    eventually(lambda: job.get_status() == "started", LIMIT_S)

    client = dashboard(auth=lambda _: Access(queues=("other",)))
    assert client.get("/running.json").json()["jobs"] == []
    assert client.get("/hosts.json").json()["hosts"] == []


def test_a_master_is_paused_resumed_scaled_and_stopped_and_its_replies_are_shown(
    dashboard: Open, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--name", "one")
    client = dashboard()

    assert "one: paused, 0 running" in done(client, "pause-master", master="one")
    assert "one: idle, 0 running" in done(client, "resume-master", master="one")
    assert "one: 3 workers, had 1" in done(client, "scale", master="one", workers="3")
    assert "one: 2 workers, had 3" in done(client, "scale", master="one", workers="-1")
    eventually(lambda: master_row(client)["wanted"] == 2, LIMIT_S)
    assert "one: stopping, 0 running" in done(client, "stop-master", master="one")
    eventually(lambda: not daemon.running, LIMIT_S)


@pytest.mark.parametrize("workers", ["", "0", "many", "1.5", "+0"])
def test_a_number_of_workers_that_is_none_is_refused(
    dashboard: Open, start_daemon: StartDaemon, workers: str
) -> None:
    start_daemon("--name", "one")
    client = dashboard()

    assert "write 4, +2 or -1" in done(client, "scale", master="one", workers=workers)
    assert master_row(client)["wanted"] == 1


def test_all_masters_of_a_host_answer_to_one_action(
    dashboard: Open, start_daemon: StartDaemon
) -> None:
    start_daemon("--name", "one")
    start_daemon("--name", "two")

    html = done(dashboard(), "pause-master", master="one,two")
    assert "one: paused, 0 running\ntwo: paused, 0 running" in html


def test_a_reload_is_awaited_and_a_refused_one_shows_its_error(
    dashboard: Open, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    code = tmp_path / "shop_of_reload.py"
    code.write_text("")
    env = {"PYTHONPATH": str(tmp_path)}
    start_daemon("--name", "one", "--preload", "shop_of_reload", env=env)
    client = dashboard()

    assert "one: reloaded" in done(client, "reload", master="one")
    code.write_text("raise RuntimeError('no such shop')")
    assert "refused, the old code serves on: RuntimeError: no such shop" in (
        done(client, "reload", master="one")
    )
    for page in ("/hosts", "/"):
        assert "RuntimeError: no such shop" in client.get(page).text


def test_a_master_that_does_not_answer_is_named(
    dashboard: Open, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon("--name", "one")
    monkeypatch.setattr(rqd.client.masters, "ANSWER_WITHIN_S", 0.3)
    daemon.signal(signal.SIGSTOP)

    assert "one: does not answer" in done(dashboard(), "pause-master", master="one")


def test_commands_are_signed_if_the_dashboard_has_the_key(
    dashboard: Open, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"RQD_SIGNING_KEY": "a-key-of-enough-characters"}
    start_daemon("--name", "one", "--require-signed", env=key)

    told = done(dashboard(), "pause-master", master="one")
    assert "one: refused: it obeys signed commands only" in told
    monkeypatch.setenv(*key.popitem())
    client = dashboard()
    assert "one: paused, 0 running" in done(client, "pause-master", master="one")
    assert "one: reloaded" in done(client, "reload", master="one")


def test_a_master_with_hidden_queues_gets_no_command(
    dashboard: Open, start_daemon: StartDaemon
) -> None:
    start_daemon("--name", "one", queues="default,billing")
    some = dashboard(auth=lambda _: Access(queues=("default",)))
    none = dashboard(auth=lambda _: Access(queues=("other",)))
    token = token_in(some.get("/hosts").text)
    data = {"token": token, "master": "one"}

    partly = some.post("/do/pause-master", data=data)
    assert partly.status_code == 400
    assert "that you may not see" in partly.text
    other = {**data, "token": token_in(dashboard().get("/hosts").text)}
    assert none.post("/do/pause-master", data=other).status_code in (403, 404)
    assert master_row(dashboard())["state"] == "idle"


def test_a_command_to_a_master_that_is_gone_says_so(
    dashboard: Open, start_daemon: StartDaemon
) -> None:
    start_daemon("--name", "one")

    assert "no master &#39;two&#39; is alive" in done(dashboard(), "pause-master", master="two")


def test_a_cron_entry_is_shown_run_paused_and_resumed(dashboard: Open, redis_url: str) -> None:
    queue = queue_at(redis_url)
    register("shop.report", cron="30 2 * * *", name="nightly", connection=queue.connection)
    client = dashboard()

    (row,) = client.get("/cron.json").json()["entries"]
    assert (row["schedule"], row["state"], row["missed_runs"]) == ("30 2 * * *", "active", "once")
    assert row["late_s"] is None
    html = done(client, "cron-run", name="nightly")
    assert f"nightly: job {queue.job_ids[0]} enqueued" in html
    assert "nightly paused" in done(client, "cron-pause", name="nightly")
    assert client.get("/cron.json").json()["entries"][0]["state"] == "paused"
    assert "nightly resumed" in done(client, "cron-resume", name="nightly")
    assert client.get("/cron.json").json()["entries"][0]["state"] == "active"


def test_a_cron_entry_of_a_hidden_queue_is_neither_shown_nor_run(
    dashboard: Open, redis_url: str
) -> None:
    queue = queue_at(redis_url)
    for name in ("default", "billing"):
        register("shop.report", name, cron="30 2 * * *", name=name, connection=queue.connection)
    client = dashboard(auth=lambda _: Access(queues=("default",)))

    assert [row["name"] for row in client.get("/cron.json").json()["entries"]] == ["default"]
    assert "billing" in done(client, "cron-run", name="billing")
    assert queue_at(redis_url, "billing").count == 0


def test_limits_show_holders_and_waiters(
    dashboard: Open, redis_url: str, start_daemon: StartDaemon
) -> None:
    start_daemon(workers=2)
    queue = queue_at(redis_url)
    one = RateLimit("crm", concurrency=1)
    jobs = [queue.enqueue("time.sleep", 60, rate_limit=one) for _ in range(3)]
    client = dashboard()

    def limit() -> dict[str, Any]:
        rows = client.get("/limits.json").json()["limits"]
        return dict(rows[0]) if rows else {"waits": 0}

    eventually(lambda: limit()["waits"] == 2, LIMIT_S)
    assert limit()["waiting"] == {"default": 2}
    (holder,) = limit()["holders"]
    assert holder["id"] in [job.id for job in jobs]
    assert holder["function"] == "time.sleep"
    assert "crm" in client.get("/limits").text
