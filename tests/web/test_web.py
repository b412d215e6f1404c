"""The dashboard: its pages, its actions, and the requests that it refuses."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
import redis
from starlette.testclient import TestClient
from starlette.types import Message

from rqd import Queue
from rqd.client.connection import Backend
from rqd.model.errors import ConfigurationError, RqdError
from rqd.store.connection import client_connection
from rqd.store.keys import Keys
from rqd.store.store import Store
from rqd.web import app
from rqd.web.access import Access, Basic, Bearer
from rqd.web.frame import ACTIONS, PAGES
from rqd.web.live import Hub
from rqd.web.redact import hide_secrets
from tests.cli.running import rqd
from tests.servers import RedisServer
from tests.web.conftest import Open, Served, token_in

PATHS = [f"/{path}" for path in PAGES if path not in ("job", "stack", "queue", "bulk")]
LIMIT_S = 20.0


def queue_at(url: str, name: str = "low") -> Queue:
    return Queue(name, Backend(Store(client_connection(url)), url))


def post(client: TestClient, name: str, token: str, **fields: str) -> httpx2.Response:
    return client.post(f"/do/{name}", data={"token": token, **fields}, follow_redirects=False)


def token_of(client: TestClient, path: str = "/queue?name=low") -> str:
    return token_in(client.get(path).text)


@pytest.mark.parametrize("path", ["/", *PATHS])
def test_each_page_opens_on_an_empty_namespace(dashboard: Open, path: str) -> None:
    answer = dashboard().get(path)

    assert answer.status_code == 200
    assert "<h1" in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_each_page_has_its_data_as_json(dashboard: Open, path: str) -> None:
    answer = dashboard().get(f"{path}.json")

    assert answer.status_code == 200
    assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("path", ["/", "/overview.json", "/job?id=none", "/static/rqd.css", "/nix"])
def test_every_answer_has_the_headers_of_safety(dashboard: Open, path: str) -> None:
    headers = dashboard().get(path).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == (
        "public, max-age=86400" if path.startswith("/static") else "no-store"
    )


def test_no_template_has_an_inline_script_style_or_handler(dashboard: Open, redis_url: str) -> None:
    queue_at(redis_url).enqueue("shop.mail")
    client = dashboard()
    for path in ["/", "/queue?name=low", *PATHS]:
        html = client.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html), path


def test_a_queue_is_paused_resumed_and_emptied(dashboard: Open, redis_url: str) -> None:
    queue = queue_at(redis_url)
    queue.enqueue("shop.mail")
    client = dashboard()
    token = token_of(client)

    post(client, "pause", token, queue="low")
    states = [queue.is_paused]
    post(client, "resume", token, queue="low")
    states.append(queue.is_paused)
    assert states == [True, False]
    answer = post(client, "empty", token, queue="low", back="/queue?name=low")
    assert queue.count == 0
    assert answer.status_code == 303
    assert "1 job of low deleted" in client.get(answer.headers["location"]).text


def test_a_waiting_job_is_canceled_requeued_and_deleted(dashboard: Open, redis_url: str) -> None:
    job = queue_at(redis_url).enqueue("shop.mail")
    client = dashboard()
    page = f"/job?id={job.id}"
    token = token_of(client, page)

    post(client, "cancel", token, id=job.id)
    assert job.get_status() == "canceled"
    post(client, "requeue", token, id=job.id)
    assert job.get_status() == "queued"
    post(client, "delete", token, id=job.id)
    assert client.get(page).status_code == 404


def test_each_action_is_in_the_audit_with_its_result(dashboard: Open, redis_url: str) -> None:
    job = queue_at(redis_url).enqueue("shop.mail")
    client = dashboard()
    token = token_of(client)
    post(client, "pause", token, queue="low")
    refused = post(client, "requeue", token, id=job.id)

    assert refused.status_code == 409
    late, early = client.get("/audit.json").json()["entries"]
    assert (early["who"], early["action"], early["target"]) == ("anonymous", "pause", "low")
    assert early["result"] == "queue low paused"
    assert late["result"].startswith("refused: ")
    assert "refused: " in client.get("/audit").text


def test_an_audit_entry_sent_twice_is_one_entry(redis_url: str, redis_client: redis.Redis) -> None:
    store = Store(client_connection(redis_url))
    for _ in range(2):
        store._ask("audit", "same-request", 100, b"who", b"pause", b"low", b"done")

    assert redis_client.xlen(Keys().audit) == 1


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}],
)
def test_a_form_of_another_site_is_refused(
    dashboard: Open, redis_url: str, headers: dict[str, str]
) -> None:
    queue = queue_at(redis_url)
    queue.enqueue("shop.mail")
    client = dashboard()
    data = {"token": token_of(client), "queue": "low"}

    answer = client.post("/do/pause", data=data, headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert not queue.is_paused


def test_a_form_without_its_token_is_refused(dashboard: Open, redis_url: str) -> None:
    queue = queue_at(redis_url)
    queue.enqueue("shop.mail")

    assert post(dashboard(), "pause", "0" * 40, queue="low").status_code == 403
    assert not queue.is_paused


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil", "/nix"])
def test_an_action_leads_to_no_other_site(dashboard: Open, redis_url: str, back: str) -> None:
    queue_at(redis_url).enqueue("shop.mail")
    client = dashboard()

    answer = post(client, "pause", token_of(client), queue="low", back=back)
    assert answer.headers["location"].startswith("/?said=")


def test_a_message_that_is_not_ours_is_not_shown(dashboard: Open) -> None:
    answer = dashboard().get("/?said=pay+to+evil&seal=123")

    assert "pay to evil" not in answer.text


def test_read_only_has_no_actions_at_all(dashboard: Open, redis_url: str) -> None:
    queue_at(redis_url).enqueue("shop.mail")
    client = dashboard(read_only=True)

    assert 'method="post"' not in client.get("/queue?name=low").text
    for name in ACTIONS:
        assert client.post(f"/do/{name}").status_code == 404


def basic(name: str, password: str) -> dict[str, str]:
    told = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {told}"}


@pytest.mark.parametrize(
    "path", ["/", "/jobs.json", "/overview.live", "/static/rqd.css", "/do/stop"]
)
def test_without_the_password_there_is_nothing(dashboard: Open, path: str) -> None:
    client = dashboard(auth=Basic({"ann": "right"}))

    for headers in ({}, basic("ann", "wrong"), basic("bob", ""), {"authorization": "Basic %%"}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_the_right_password_or_token_opens(dashboard: Open) -> None:
    known = dashboard(auth=Basic({"ann": "right"}))
    assert known.get("/", headers=basic("ann", "right")).status_code == 200
    bearer = dashboard(auth=Bearer("secret"))
    assert bearer.get("/", headers={"authorization": "Bearer secret"}).status_code == 200
    assert bearer.get("/", headers={"authorization": "Bearer secre"}).status_code == 401


async def _reads(_: object) -> str:
    return "read"


@pytest.mark.parametrize("auth", [lambda _: "read", _reads, lambda _: set()])
def test_a_reader_sees_no_forms_and_may_do_nothing(
    dashboard: Open, redis_url: str, auth: Callable[..., object]
) -> None:
    queue = queue_at(redis_url)
    queue.enqueue("shop.mail")
    secret = b"shared"
    client = dashboard(auth=auth, secret=secret)
    assert 'method="post"' not in client.get("/queue?name=low").text
    # The token of another visitor of the same name, who may.
    token = token_of(dashboard(auth=lambda _: "all", secret=secret))

    assert post(client, "pause", token, queue="low").status_code == 403
    assert not queue.is_paused


def test_a_visitor_may_do_the_named_actions_only(dashboard: Open, redis_url: str) -> None:
    queue = queue_at(redis_url)
    queue.enqueue("shop.mail")
    client = dashboard(auth=lambda _: {"pause"})
    token = token_of(client)

    assert post(client, "empty", token, queue="low").status_code == 403
    assert post(client, "pause", token, queue="low").status_code == 303
    assert (queue.count, queue.is_paused) == (1, True)


def test_an_auth_that_answers_nonsense_opens_no_door(dashboard: Open) -> None:
    with pytest.raises(ConfigurationError, match="auth returned"):
        dashboard(auth=lambda _: True).get("/")


def test_hidden_queues_show_nowhere(dashboard: Open, redis_url: str) -> None:
    seen = queue_at(redis_url, "mail-1").enqueue("shop.mail")
    hidden = queue_at(redis_url, "salaries").enqueue("shop.salary")
    client = dashboard(auth=lambda _: Access(who="ann", queues=("mail-*",)))

    for path in ("/", "/queues", "/jobs?state=queued", "/overview.json", "/jobs.json?state=queued"):
        text = client.get(path).text
        assert "mail-1" in text
        assert "salar" not in text
    assert client.get(f"/job?id={seen.id}").status_code == 200
    assert client.get(f"/job?id={hidden.id}").status_code == 404
    assert client.get("/queue?name=salaries").status_code == 404
    assert client.get("/jobs?filter=queue:salaries").status_code == 404
    token = token_of(client, "/queue?name=mail-1")
    assert post(client, "empty", token, queue="salaries").status_code == 404
    assert post(client, "delete", token, id=hidden.id).status_code == 404
    assert hidden.get_status() == "queued"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9181", "", "[", "127.0.0.1.evil"])
def test_another_host_name_is_refused_at_the_loopback_address(dashboard: Open, host: str) -> None:
    client = dashboard(hosts=("localhost", "127.0.0.1", "::1"))

    assert client.get("/", headers={"host": host}).status_code == 421
    assert client.get("/", headers={"host": "127.0.0.1:9181"}).status_code == 200


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnp.exe",
    "a\x00\x1b[31m\x07b",
    "</title></textarea><b>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_hostile_jobs_are_shown_and_never_obeyed(
    dashboard: Open, redis_url: str, redis_client: redis.Redis, text: str
) -> None:
    job = queue_at(redis_url).enqueue("shop.mail")
    fields = ("func_name", "description", "cause", "worker", "origin")
    redis_client.hset(Keys().job(job.id), mapping=dict.fromkeys(fields, text))
    client = dashboard()

    for path in ("/jobs?state=queued", f"/job?id={job.id}", "/queue?name=low"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert text not in answer.text
        assert not re.search("[\x00\x07\x1b\u202e]", answer.text)
    assert client.get(f"/job.json?id={job.id}").json()["job"]["function"] == text


def test_broken_and_endless_texts_are_shown_cut(
    dashboard: Open, redis_url: str, redis_client: redis.Redis
) -> None:
    job = queue_at(redis_url).enqueue("shop.mail")
    redis_client.hset(Keys().job(job.id), "func_name", b"\xff\xfe" + b"a" * 1_000_000)
    redis_client.hset(Keys().job(job.id), "description", b"\xed\xa0\x80" * 300_000)
    client = dashboard()

    for path in ("/jobs?state=queued", f"/job?id={job.id}", f"/job.json?id={job.id}"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert len(answer.text) < 2_000_000


def test_a_pickle_that_acts_when_it_is_read_is_not_read(
    dashboard: Open, redis_url: str, redis_client: redis.Redis
) -> None:
    job = queue_at(redis_url).enqueue("shop.mail")
    redis_client.hset(Keys().job(job.id), "payload", b"cos\n_exit\n(I3\ntR.")

    assert dashboard().get(f"/job?id={job.id}").status_code == 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("f(password='hunter2', n=1)", "f(password=***, n=1)"),
        ('{"api_key": "sk-1"}', '{"api_key": ***}'),
        ("redis://ann:pw@host/0", "redis://ann:***@host/0"),
        ("f('plain', 2)", "f('plain', 2)"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_the_redactor_sees_the_texts_of_a_job(dashboard: Open, redis_url: str) -> None:
    job = queue_at(redis_url).enqueue("shop.mail", "ann@example.com")
    client = dashboard(redact=lambda text: text.replace("ann@example.com", "(hidden)"))

    for path in (f"/job?id={job.id}", f"/job.json?id={job.id}", "/queue.json?name=low"):
        text = client.get(path).text
        assert "(hidden)" in text
        assert "ann@example.com" not in text


def test_pages_of_jobs_show_each_job_once_over_all_queues(dashboard: Open, redis_url: str) -> None:
    ids = {
        queue_at(redis_url, name).enqueue("shop.mail").id
        for name in ("high", "low", "mail")
        for _ in range(40)
    }
    client, seen, cursor = dashboard(), list[str](), ""
    while True:
        page = client.get("/jobs.json", params={"state": "queued", "cursor": cursor}).json()
        seen += [row["id"] for row in page["jobs"]]
        cursor = page["cursor"]
        if not cursor:
            break

    assert len(seen) == 120
    assert set(seen) == ids


@pytest.mark.parametrize("query", ["state=nix", "cursor=%%%", "cursor=W10", "cursor=eyJhIjotMX0"])
def test_a_bad_address_is_a_page_with_an_error(dashboard: Open, query: str) -> None:
    assert dashboard().get(f"/jobs?{query}").status_code == 400
    assert "error" in dashboard().get(f"/jobs.json?{query}").json()


def test_a_redis_that_is_gone_is_a_page_and_comes_back(own_server: RedisServer) -> None:
    with TestClient(app(own_server.url)) as client:
        assert client.get("/").status_code == 200
        own_server.kill()
        answer = client.get("/")
        assert answer.status_code == 503
        assert "Redis does not answer" in answer.text
        assert client.get("/queues.json").status_code == 503
        own_server.start()
        assert client.get("/").status_code == 200


def test_a_redis_that_stands_still_is_said_within_two_seconds(own_server: RedisServer) -> None:
    with TestClient(app(own_server.url)) as client:
        assert client.get("/").status_code == 200
        own_server.freeze()
        for path in ("/", "/queues", "/queues.json"):  # known connections, and new connections
            began = time.monotonic()
            assert client.get(path).status_code == 503
            assert time.monotonic() - began < 2.0
        own_server.thaw()
        assert client.get("/").status_code == 200


def test_it_mounts_below_a_path(redis_url: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    queue_at(redis_url).enqueue("shop.mail")
    host = Starlette(routes=[Mount("/ops/rqd", app(redis_url))])
    with TestClient(host) as client:
        html = client.get("/ops/rqd/queue?name=low").text
        assert not re.search(r'(?:href|src|action)="/(?!ops/rqd/)', html)
        assert 'data-live="/ops/rqd/queue.live?name=low"' in html
        assert client.get(re.search(r'href="([^"]+\.css[^"]*)"', html)[1]).status_code == 200  # type: ignore[index]  # a page has styles
        data = {"token": token_in(html), "queue": "low", "back": "/ops/rqd/queue?name=low"}
        answer = client.post("/ops/rqd/do/pause", data=data, follow_redirects=False)
        assert answer.headers["location"].startswith("/ops/rqd/queue?name=low&said=")


@pytest.mark.timeout(60)
def test_a_served_dashboard_shows_changes_live_and_ends_at_once(own_server: RedisServer) -> None:
    queue = queue_at(own_server.url)
    with Served(url=own_server.url) as served:
        page = f"{served.address}queues"
        assert httpx2.get(page, timeout=LIMIT_S).status_code == 200
        with httpx2.stream("GET", f"{page}.live", timeout=LIMIT_S) as answer:
            lines = answer.iter_lines()

            def next_event(wanted: str, text: str) -> None:
                name = ""
                for line in lines:
                    name = line.removeprefix("event: ") if line.startswith("event: ") else name
                    if line.startswith("data: ") and name == wanted and text in line:
                        return
                raise AssertionError("the stream ended")

            next_event("page", "No queue yet")
            queue.enqueue("shop.mail")
            next_event("page", "name=low")
            own_server.kill()
            next_event("away", "")
            own_server.start()
            next_event("page", "No queue yet")
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT_S / 2


@pytest.mark.timeout(60)
def test_fifty_viewers_of_a_page_are_one_look_a_second() -> None:
    looks = 0

    def render() -> str:
        nonlocal looks
        looks += 1
        return f"look {looks}"

    async def watch() -> tuple[int, float, int]:
        hub = Hub(asyncio.to_thread)
        leave = asyncio.Event()
        sent: dict[int, int] = dict.fromkeys(range(50), 0)

        async def receive() -> Message:
            await leave.wait()
            return {"type": "http.disconnect"}

        def viewer(number: int) -> Coroutine[Any, Any, None]:
            async def send(message: Message) -> None:
                sent[number] += b"event: page" in message.get("body", b"")
                if min(sent.values()) >= 3:
                    leave.set()

            return hub.serve("page", render, receive, send)

        began = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*map(viewer, sent))
        return looks, time.monotonic() - began, hub.viewers

    found, took_s, left = asyncio.run(watch())
    assert found <= took_s + 2
    assert left == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mistake", [RqdError("away"), RuntimeError("a mistake of ours")])
def test_a_page_that_fails_slows_no_other_page(mistake: Exception) -> None:
    def fails() -> str:
        raise mistake

    async def watch() -> tuple[float, str]:
        hub = Hub(asyncio.to_thread)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it would be printed
        leave = asyncio.Event()
        looks = 0
        told = b""

        async def receive() -> Message:
            await leave.wait()
            return {"type": "http.disconnect"}

        def shown() -> str:
            nonlocal looks
            looks += 1
            return f"look {looks}"

        async def to_the_well(message: Message) -> None:
            if looks >= 3:
                leave.set()

        async def to_the_sick(message: Message) -> None:
            nonlocal told
            told += message.get("body", b"")

        began = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(
                hub.serve("sick", fails, receive, to_the_sick),
                hub.serve("well", shown, receive, to_the_well),
            )
        return time.monotonic() - began, told.decode()

    took_s, told = asyncio.run(watch())
    # A common pause would have grown to four seconds by the third look.
    assert took_s < 5
    assert "event: away" in told


@pytest.mark.timeout(60)
def test_a_browser_that_reads_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rqd.web.live._SEND_WITHIN_S", 0.2)

    async def watch() -> int:
        hub = Hub(asyncio.to_thread)

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async with asyncio.timeout(LIMIT_S):
            await hub.serve("page", lambda: "html", receive, send)
        return hub.viewers

    assert asyncio.run(watch()) == 0


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("--host", "0.0.0.0"), {}, "give --user-file or --token-file"),
        (("--user-file", "/nix"), {}, "--user-file /nix: cannot be read"),
        ((), {"RQD_WEB_USER": "ann"}, "write NAME:PASSWORD"),
        ((), {"RQD_WEB_USER": "a:b", "RQD_WEB_TOKEN": "c"}, "choose one of the two"),
        (("--url", "nix://"), {}, "nix"),
    ],
)
def test_a_bad_start_is_one_line_that_says_what_to_do(
    arguments: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    ran = rqd("web", *arguments, env=env)

    assert ran.status == 64
    assert said in ran.err
    assert ran.err.count("\n") == 1
