"""The page of a job: what runs now, its stack, its graph, and its actions, with a real daemon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from starlette.testclient import TestClient

from rqd import Queue, Retry
from rqd.client.connection import Backend
from rqd.group import Group
from rqd.job import Callback, Job
from rqd.store.keys import Keys
from rqd.web.access import Access
from tests import callbacks, jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually
from tests.web.conftest import Open, Served, token_in

WAIT_S = 15.0


@pytest.fixture
def queue(there: Backend) -> Queue:
    return Queue(connection=there)


def shown(client: TestClient, job: Job[Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/job.json", params={"id": job.id}).json()
    return found


def html(client: TestClient, job: Job[Any], page: str = "job") -> str:
    answer = client.get(f"/{page}", params={"id": job.id})
    assert answer.status_code == 200
    return answer.text


def act(client: TestClient, name: str, job: Job[Any], **fields: str) -> int:
    data = {"token": token_in(html(client, job)), "id": job.id, **fields}
    return client.post(f"/do/{name}", data=data, follow_redirects=False).status_code


def until_started(job: Job[Any]) -> None:
    eventually(lambda: job.get_status() == "started", WAIT_S)


def output_of(client: TestClient, job: Job[Any]) -> str:
    return str((shown(client, job)["running"] or {}).get("output"))


@pytest.mark.timeout(60)
def test_a_running_job_shows_its_output_as_it_is_printed(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.say_as_told, fifo)
    client = dashboard()
    Path(fifo).write_text("<b>first</b> token=abc123\n")
    eventually(lambda: output_of(client, job) == "<b>first</b> token=***\n\n", WAIT_S)
    Path(fifo).write_text("second")
    eventually(lambda: output_of(client, job).endswith("\nsecond\n"), WAIT_S)

    page = html(client, job)
    assert "&lt;b&gt;first&lt;/b&gt;" in page
    assert "abc123" not in page
    # A second visitor sees all of it, from its first look.
    assert output_of(dashboard(), job).endswith("\nsecond\n")
    Path(fifo).write_text("end")
    job.wait(WAIT_S)
    ended = shown(client, job)
    assert ended["running"] is None
    assert "second" in ended["attempts"][0]["output"]


@pytest.mark.timeout(60)
def test_the_output_of_another_attempt_does_not_show_as_the_running_attempts(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, tmp_path: Path, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.fail_then_say_as_told, str(tmp_path / "marks"), fifo, retry=Retry(1))
    client = dashboard()
    Path(fifo).write_text("of the second\n")
    eventually(lambda: output_of(client, job) == "of the second\n\n", WAIT_S)

    found = shown(client, job)
    assert found["running"]["attempt"] == 2
    assert found["attempts"][0]["output"] == "of the first\n"
    Path(fifo).write_text("end")
    job.wait(WAIT_S)


@pytest.mark.timeout(60)
def test_output_that_does_not_end_shows_its_last_lines(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.say_as_told, fifo)
    client = dashboard()
    Path(fifo).write_text("\n".join(f"line {number:06}" for number in range(5000)))
    eventually(lambda: output_of(client, job).endswith("line 004999\n"), WAIT_S)

    running = shown(client, job)["running"]
    assert len(running["output"]) <= 32 * 1024
    assert running["output"].startswith("line 00")
    assert running["skipped_bytes"] + len(running["output"]) == 5000 * 12
    assert "are not shown" in html(client, job)
    Path(fifo).write_text("end")
    job.wait(WAIT_S)


@pytest.mark.timeout(60)
def test_a_running_job_shows_its_memory_against_its_limit(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.hold, fifo, max_memory="512M")
    client = dashboard()
    # A master writes its measurements every five seconds.
    eventually(lambda: (shown(client, job)["running"] or {}).get("memory_bytes"), WAIT_S)

    running = shown(client, job)["running"]
    assert running["memory_bytes"] < 512 * 2**20
    assert running["pid"]
    assert '<meter min="0" max="536870912"' in html(client, job)
    Path(fifo).write_text("done")
    job.wait(WAIT_S)


@pytest.mark.timeout(60)
def test_the_stack_of_a_running_job_is_at_a_click_and_it_goes_on(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.hold, fifo)
    client = dashboard()
    until_started(job)
    assert f'href="/stack?id={job.id}"' in html(client, job)

    eventually(lambda: "in hold" in html(client, job, "stack"), WAIT_S)
    Path(fifo).write_text("done")
    job.wait(WAIT_S)
    assert job.get_status() == "finished"
    assert "is finished: only a running job has a stack" in html(client, job, "stack")


@pytest.mark.timeout(60)
def test_a_stack_that_does_not_come_says_why(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    daemon = start_daemon()
    job = queue.enqueue(jobs.hold, fifo)
    until_started(job)
    daemon.process.kill()
    daemon.wait()

    assert "does not answer" in html(dashboard(), job, "stack")


@pytest.mark.timeout(60)
def test_a_running_job_is_stopped_with_the_grace_of_the_form(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, tmp_path: Path
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.note_a_stop, str(tmp_path / "notes"))
    client = dashboard(auth=lambda _: Access(who="ann"))
    until_started(job)
    eventually(lambda: "in note_a_stop" in html(client, job, "stack"), WAIT_S)

    assert act(client, "stop", job, grace="never") == 400
    assert act(client, "stop", job, grace="10") == 303
    eventually(lambda: job.get_status() == "stopped", WAIT_S)
    assert "ann" in shown(client, job)["attempts"][0]["cause"]


@pytest.mark.timeout(60)
def test_a_running_job_gets_more_time(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open, fifo: str
) -> None:
    daemon = start_daemon()
    job = queue.enqueue(jobs.hold, fifo, job_timeout=3)
    client = dashboard()
    until_started(job)
    over_at = time.monotonic() + 3.5

    assert act(client, "extend", job, more="soon") == 400
    assert act(client, "extend", job, more="10m") == 303
    eventually(lambda: "job extended" in daemon.log())
    eventually(lambda: time.monotonic() > over_at)
    assert job.get_status() == "started"
    Path(fifo).write_text("done")
    job.wait(WAIT_S)
    assert job.get_status() == "finished"
    assert act(client, "extend", job, more="10m") == 409


def tree(branch: dict[str, Any]) -> dict[str, Any]:
    """The ids of a list, each with those that follow from it."""
    return {one["id"]: tree(one["then"]) for one in branch["jobs"]}


def test_the_graph_has_the_jobs_before_and_after_on_all_levels(
    queue: Queue, dashboard: Open
) -> None:
    first = queue.enqueue(jobs.multiply, 1, 2)
    second = queue.enqueue(jobs.multiply, 3, 4, depends_on=first)
    third = queue.enqueue(jobs.multiply, 5, 6, depends_on=second)
    client = dashboard()

    assert tree(shown(client, first)["graph"]["dependents"]) == {second.id: {third.id: {}}}
    assert tree(shown(client, third)["graph"]["depends_on"]) == {second.id: {first.id: {}}}
    page = html(client, third)
    assert f'href="/job?id={first.id}"' in page
    assert "Waits for" in page
    first.delete()
    (gone,) = shown(client, third)["graph"]["depends_on"]["jobs"]
    assert gone["status"] == "canceled"
    assert gone["then"]["jobs"][0]["status"] == "gone"


def test_the_graph_has_the_group_with_its_jobs(queue: Queue, dashboard: Open) -> None:
    group = Group.create(queue.connection, "batch")
    calls = [Queue.prepare_data(jobs.multiply, (n, n)) for n in range(25)]
    *members, last = group.enqueue_many(queue, calls, then=Queue.prepare_data(jobs.hold, ("x",)))
    client = dashboard()

    found = shown(client, members[3])["graph"]["group"]
    assert [one["id"] for one in found["jobs"]] == [one.id for one in members[:20]]
    assert (found["name"], found["more"], found["counts"]["open"]) == ("batch", 5, 25)
    assert "Group batch" in html(client, members[3])
    assert shown(client, last)["graph"]["awaited_groups"][0]["name"] == "batch"
    assert "Waits for groups" in html(client, last)


@pytest.mark.timeout(60)
def test_the_graph_leads_from_a_job_to_its_callback_and_back(
    start_daemon: StartDaemon, queue: Queue, dashboard: Open
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.multiply, 2, 3, on_success=Callback(callbacks.on_success))
    client = dashboard()
    job.wait(WAIT_S)

    (made,) = eventually(lambda: shown(client, job)["graph"]["callbacks"]["jobs"], WAIT_S)
    back = client.get("/job.json", params={"id": made["id"]}).json()["graph"]["callback_of"]
    assert tree(back) == {job.id: {}}


def test_jobs_of_hidden_queues_are_in_no_graph(queue: Queue, dashboard: Open) -> None:
    secret = Queue("salaries", queue.connection)
    before = secret.enqueue(jobs.multiply, 1, 2)
    job = queue.enqueue(jobs.multiply, 3, 4, depends_on=before)
    after = secret.enqueue(jobs.multiply, 5, 6, depends_on=job)
    client = dashboard(auth=lambda _: Access(who="ann", queues=("default",)))

    for text in (html(client, job), client.get("/job.json", params={"id": job.id}).text):
        assert before.id not in text
        assert after.id not in text
        assert "salaries" not in text
    assert shown(client, job)["graph"]["depends_on"]["hidden"] == 1
    assert "that you may not see" in html(client, job)
    # The words for a hidden job are those for a job that is not there.
    hidden = client.get("/job.json", params={"id": before.id}).json()["error"]
    nowhere = client.get("/job.json", params={"id": "nowhere"}).json()["error"]
    assert hidden.replace(before.id, "nowhere") == nowhere
    assert client.get("/stack", params={"id": before.id}).status_code == 404


def test_a_wide_graph_is_cut_and_counted(queue: Queue, dashboard: Open) -> None:
    first = queue.enqueue(jobs.multiply, 1, 2)
    for _ in range(30):
        queue.enqueue(jobs.multiply, 3, 4, depends_on=first)
    client = dashboard()

    found = shown(client, first)["graph"]["dependents"]
    assert (len(found["jobs"]), found["more"]) == (20, 10)
    assert "and 10 more" in html(client, first)


def test_damaged_terms_make_no_graph(
    queue: Queue, dashboard: Open, redis_client: redis.Redis
) -> None:
    job = queue.enqueue(jobs.multiply, 1, 2)
    ids = '{"ids": ["group:../x", 3, "a b"]}'
    terms = f'{{"depends_on": {ids}, "group": {{"name": "*"}}, "callback": {{"of": {{}}}}}}'
    redis_client.hset(Keys().job(job.id), mapping={"terms": terms, "callbacks": "% <b> x"})

    graph = shown(dashboard(), job)["graph"]
    assert graph["group"] is None
    assert graph["awaited_groups"] == []
    assert html(dashboard(), job)


@pytest.mark.timeout(60)
def test_a_job_that_vanishes_says_so_on_its_page(queue: Queue, dashboard: Open) -> None:
    job = queue.enqueue(jobs.multiply, 1, 2)
    client = dashboard()
    assert act(client, "delete", job) == 303

    answer = client.get("/job", params={"id": job.id})
    assert answer.status_code == 404
    assert "it was deleted, or its time to live is over" in answer.text


@pytest.mark.timeout(60)
def test_a_job_that_vanishes_while_somebody_looks_says_so_on_its_live_page(
    queue: Queue, redis_url: str
) -> None:
    job = queue.enqueue(jobs.multiply, 1, 2)
    with Served(url=redis_url) as served:
        address = f"{served.address}job.live?id={job.id}"
        with httpx2.stream("GET", address, timeout=WAIT_S) as answer:
            lines = iter(answer.iter_lines())
            assert next(line for line in lines if line.startswith("event: ")) == "event: page"
            job.delete()
            assert next(line for line in lines if line == "event: away")
            assert "it was deleted" in next(lines)
