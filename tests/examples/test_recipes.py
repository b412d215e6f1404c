"""What the recipes for FastAPI and Flask have in common, by their real servers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from rqd import Queue
from rqd.job import Job
from tests.examples.conftest import Serve, Work
from tests.examples.serving import PASSWORD, Event, Shelf, Site, Stream, static_files
from tests.servers import RedisServer
from tests.waiting import eventually

AWAY = {"error": "try again in a moment"}
QUIET_S = 1.6  # three times as long as between two looks of a stream

# Applications whose streams end soon, by the framework.
SHORT = {
    "fastapi": "from app import create_app\n\napp = create_app(longest_stream_s=0.1)\n",
    "flask": "from app import create_app\n\napp = create_app(LONGEST_STREAM_S=0.1)\n",
}


def test_an_order_is_enqueued_and_polled_to_its_bill(
    example: str, serve: Serve, work: Work
) -> None:
    site, daemon = serve(example), work(example)

    path = site.order("tea")

    assert site.ended(path) == {
        "id": path.removeprefix("/jobs/"),
        "status": "finished",
        "fraction": 1,
        "message": "packed",
        "bill": {"items": ["tea"], "cents": 450},
        "cause": None,
    }
    # What a preloaded module must not have, threads and connections, is a warning.
    assert "WARN" not in daemon.log()
    assert daemon.stop() == 0


def test_progress_is_streamed_in_order_and_the_end_comes_last(
    example: str, serve: Serve, work: Work, shelf: Shelf
) -> None:
    site = serve(example)
    path = site.order("tea", "milk", "cake")
    id_ = path.removeprefix("/jobs/")
    with Stream(site, f"{path}/events") as stream:
        assert stream.answer.status_code == 200
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-cache"
        seen = [brief(stream.next())]
        work(example, preload="held")
        for item in ("tea", "milk", "cake"):
            seen.append(after(stream, f"packing {item}"))
            shelf.give()
        events = [*stream]

    assert seen == [
        ("progress", "queued", 0, ""),
        ("progress", "started", 0, "packing tea"),
        ("progress", "started", pytest.approx(1 / 3), "packing milk"),
        ("progress", "started", pytest.approx(2 / 3), "packing cake"),
    ]
    bill = {"items": ["tea", "milk", "cake"], "cents": 960}
    shown = {"id": id_, "status": "finished", "fraction": 1, "message": "packed"}
    assert events[-1] == Event("end", {**shown, "bill": bill, "cause": None})
    assert [brief(event) for event in events[:-1]] in ([], [("progress", "started", 1, "packed")])


def test_an_order_that_fails_shows_its_cause_and_its_stream_is_its_end(
    example: str, serve: Serve, work: Work
) -> None:
    site = serve(example)
    work(example)

    path = site.order("gold")

    shown = site.ended(path)
    assert (shown["status"], shown["bill"]) == ("failed", None)
    assert shown["cause"] == "raised LookupError: there is no gold"
    with Stream(site, f"{path}/events") as stream:
        assert [*stream] == [Event("end", shown)]


@pytest.mark.parametrize("kind", ["unknown", "unusable", "of another queue"])
def test_there_is_no_order_of_such_an_id(
    example: str, serve: Serve, redis_url: str, kind: str
) -> None:
    other = Queue("mail", connection=redis_url).enqueue("shop.pack", [])
    id_ = {"unknown": str(uuid4()), "unusable": "a b:c", "of another queue": other.id}[kind]
    site = serve(example)

    for path in (f"/jobs/{id_}", f"/jobs/{id_}/events"):
        answer = site.client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": f"there is no order {id_}"})


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[]", b"{}", b'{"items": []}', b'{"items": "tea"}', b'{"items": [1]}']
)
def test_what_is_no_order_is_refused_and_nothing_is_enqueued(
    example: str, serve: Serve, redis_client: redis.Redis, sent: bytes
) -> None:
    site = serve(example)

    answer = site.client.post("/orders", content=sent, headers={"content-type": "application/json"})

    assert answer.status_code == {"fastapi": 422, "flask": 400}[example]
    assert redis_client.keys("*") == []
    assert "Traceback" not in site.log()


def test_without_redis_it_starts_and_answers_503_in_one_line_until_redis_is_there(
    example: str, serve: Serve, own_server: RedisServer
) -> None:
    own_server.stop()
    site = serve(example, url=own_server.url)
    for answer in (
        site.client.post("/orders", json={"items": ["tea"]}),
        site.client.get(f"/jobs/{uuid4()}"),
        site.client.get(f"/jobs/{uuid4()}/events"),
    ):
        assert (answer.status_code, answer.json()) == (503, AWAY)
        assert answer.headers["retry-after"] == "5"
    said = site.log()
    assert "Traceback" not in said
    assert len(re.findall(r"redis: no Redis at .*", said)) == 3, said

    own_server.start()
    path = site.order("tea")
    own_server.kill()

    assert site.client.get(path).status_code == 503
    assert "Traceback" not in site.log()


def test_a_stream_goes_on_when_redis_is_back(
    example: str, serve: Serve, own_server: RedisServer
) -> None:
    site = serve(example, url=own_server.url)
    path = site.order("tea")
    with Stream(site, f"{path}/events") as stream:
        assert brief(stream.next()) == ("progress", "queued", 0, "")
        own_server.command("SAVE")
        own_server.stop()
        # One more request tells that Redis was missed; the stream asks more often than that.
        assert site.client.get(path).status_code == 503
        own_server.start(keep_data=True)
        Job.fetch(path.removeprefix("/jobs/"), connection=own_server.url).cancel()

        assert [brief(event) for event in stream] == [("end", "canceled", 0, "")]
    assert "Traceback" not in site.log()


def test_the_stream_of_a_deleted_order_ends(example: str, serve: Serve, redis_url: str) -> None:
    site = serve(example)
    path = site.order("tea")
    id_ = path.removeprefix("/jobs/")
    with Stream(site, f"{path}/events") as stream:
        assert brief(stream.next()) == ("progress", "queued", 0, "")
        Job.fetch(id_, connection=redis_url).delete()

        assert [*stream] == [Event("end", {"id": id_, "status": "gone"})]


def test_a_stream_that_lasts_too_long_ends_before_its_order(
    example: str, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "short.py").write_text(SHORT[example])
    site = serve(example, target="short:app")
    path = site.order("tea")

    with Stream(site, f"{path}/events") as stream:
        assert [brief(event) for event in stream] == [("progress", "queued", 0, "")]


def test_a_stream_looks_twice_a_second_and_no_more_when_its_reader_has_left(
    example: str, serve: Serve, redis_client: redis.Redis
) -> None:
    site = serve(example)
    path = site.order("tea")
    stream = Stream(site, f"{path}/events")
    stream.next()
    before, began = looks(redis_client), time.monotonic()
    eventually(lambda: looks(redis_client) >= before + 4, 10.0)
    took_s = time.monotonic() - began
    stream.close()

    assert took_s > 1.4
    eventually(quiet(lambda: looks(redis_client)), 25.0, "the stream's looks end")
    assert "Traceback" not in site.log()


def test_the_dashboard_is_mounted_with_its_files_and_its_actions(
    example: str, serve: Serve, redis_url: str
) -> None:
    site = serve(example)
    path = site.order("tea")
    assert site.client.get("/rqd/").status_code == {"fastapi": 401, "flask": 403}[example]
    log_in(site, example)

    assert site.client.get("/rqd", follow_redirects=True).status_code == 200
    page = site.client.get("/rqd/queue?name=orders")
    assert page.status_code == 200
    files = static_files(page.text)
    assert {file.partition("?")[0].rpartition(".")[2] for file in files} >= {"css", "js"}
    for file in files:
        assert file.startswith("/rqd/static/")
        answer = site.client.get(file)
        assert (answer.status_code, bool(answer.content)) == (200, True), file
    job_page = site.client.get("/rqd/job", params={"id": path.removeprefix("/jobs/")})
    assert "shop.pack" in job_page.text
    token = re.findall(r'name="token" value="(\w+)"', page.text)[0]
    site.client.post("/rqd/do/pause", data={"token": token, "queue": "orders"})
    assert Queue("orders", connection=redis_url).is_paused


def test_nobody_gets_at_the_dashboard_by_a_wrong_password(example: str, serve: Serve) -> None:
    site = serve(example)
    if example == "fastapi":
        answer = site.client.get("/rqd/", auth=("operator", "wrong"))
        assert answer.status_code == 401
    else:
        assert site.client.post("/login", data={"password": "wrong"}).status_code == 403
        assert site.client.get("/rqd/").status_code == 403


def test_the_server_ends_in_time_though_a_stream_is_open(example: str, serve: Serve) -> None:
    site = serve(example)
    path = site.order("tea")
    with Stream(site, f"{path}/events") as stream:
        assert brief(stream.next()) == ("progress", "queued", 0, "")
        site.stop()


def log_in(site: Site, example: str) -> None:
    if example == "fastapi":
        site.client.auth = ("operator", PASSWORD)
    else:
        assert site.client.post("/login", data={"password": PASSWORD}).status_code == 204


def brief(event: Event | None) -> tuple[str, str, float, str]:
    assert event is not None, "the stream has ended"
    shown = event.data
    return event.name, shown["status"], shown["fraction"], shown["message"]


def after(stream: Stream, message: str) -> tuple[str, str, float, str]:
    """Returns the first event with this message; before it, a job may show as started alone."""
    while (seen := brief(stream.next()))[3] != message:
        assert seen in (("progress", "started", 0, ""),), seen
    return seen


def looks(client: redis.Redis) -> int:
    """Returns how often a hash was read so far, as a stream reads its job."""
    return int(client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


def quiet(count: Callable[[], int]) -> Callable[[], bool]:
    """Returns a condition: the count has not changed for QUIET_S."""
    last, since = count(), time.monotonic()

    def is_quiet() -> bool:
        nonlocal last, since
        if (now := count()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= QUIET_S

    return is_quiet
