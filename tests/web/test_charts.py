"""The history of queues on the overview and on a queue's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from rqd import Queue
from rqd.client.connection import Backend
from rqd.client.snapshot import Seen
from rqd.store.connection import client_connection
from rqd.store.store import Store
from rqd.web.access import Access
from rqd.web.charts import SPANS
from rqd.web.frame import Kept
from rqd.web.pages import notes_of
from tests.daemons import Daemon
from tests.waiting import eventually
from tests.web.conftest import Open

LIMIT_S = 20.0
StartDaemon = Callable[..., Daemon]


def charts_of(client: TestClient, page: str) -> dict[str, Any]:
    return dict(client.get(page).json()["charts"])


def test_what_has_ended_is_in_the_charts_of_its_queue_and_of_all(
    dashboard: Open, redis_url: str, start_daemon: StartDaemon
) -> None:
    queue = Queue("low", Backend(Store(client_connection(redis_url)), redis_url))
    queue.enqueue("time.sleep", 0)
    queue.enqueue("time.sleep", "no number")
    start_daemon(queues="low")
    client = dashboard(auth=lambda _: Access(queues=("low",)))
    everybody = dashboard()
    nobody = dashboard(auth=lambda _: Access(queues=("other",)))

    def has_both() -> bool:
        # Each time a new dashboard, as each keeps for some seconds what it has read.
        found = charts_of(dashboard(), "/overview.json")
        return (sum(found["succeeded"]), sum(found["failed"])) == (1, 1)

    eventually(has_both, LIMIT_S)
    for span in SPANS:
        for seer, page in (
            (everybody, "/overview.json?"),
            (client, "/overview.json?"),
            (client, "/queue.json?name=low&"),
        ):
            found = charts_of(seer, f"{page}span={span}")
            assert (sum(found["succeeded"]), sum(found["failed"])) == (1, 1), (page, span)
            assert list(found["causes"]) == ["raised"]
            assert any(found["run"]["p95"])
            assert len(found["times"]) == len(found["wait"]["p50"])
    assert not any(charts_of(nobody, "/overview.json")["succeeded"])
    (row,) = client.get("/queue.json?name=low").json()["functions"]
    assert (row["name"], row["ended"], row["failed"]) == ("time.sleep", 2, 1)
    html = client.get("/queue?name=low").text
    assert "raised 1" in html
    assert 'data-chart="causes"' in html


@pytest.mark.parametrize("page", ["/", "/queue?name=low"])
def test_an_unknown_span_is_refused(dashboard: Open, redis_url: str, page: str) -> None:
    Queue("low", Backend(Store(client_connection(redis_url)), redis_url)).enqueue("time.sleep", 0)
    mark = "&" if "?" in page else "?"

    answer = dashboard().get(f"{page}{mark}span=2w")
    assert answer.status_code == 400
    assert "choose 1h, 6h, 24h, 7d, 30d" in answer.text


def test_a_kept_value_is_read_once_until_it_is_old() -> None:
    kept, read = Kept(), list[int]()

    def number() -> int:
        read.append(len(read))
        return read[-1]

    assert [kept.value("one", 60, number) for _ in range(3)] == [0, 0, 0]
    assert kept.value("two", 60, number) == 1
    assert kept.value("one", 0, number) == 2


def test_the_oldest_kept_values_make_room() -> None:
    kept = Kept()
    for key in range(1000):
        kept.value(key, 60, lambda: 0)

    assert len(kept._values) <= 101


def queue_row(**fields: Any) -> dict[str, Any]:
    return {"name": "low", "ready": 3, "paused": False, "latency_s": 7200.0, **fields}


def master_row(**fields: Any) -> dict[str, Any]:
    return {"name": "one", "queues": ["low"], "state": "idle", **fields}


@pytest.mark.parametrize(
    ("queue", "master", "do"),
    [
        (queue_row(), master_row(queues=[]), "rqd start --queues low"),
        (queue_row(paused=True), master_row(), "rqd resume low"),
        (queue_row(), master_row(reload="refused", reload_error="a\nb"), "rqd reload --master one"),
        (queue_row(), master_row(why_no_zygote="a\nb"), "rqd reload --master one"),
    ],
)
def test_a_note_says_what_to_do(queue: dict[str, Any], master: dict[str, Any], do: str) -> None:
    (note,) = notes_of(Seen([queue], [master], [], 0))

    assert note["do"] == do


@pytest.mark.parametrize("queue", [queue_row(), queue_row(paused=True, latency_s=60.0)])
def test_a_short_pause_and_a_served_queue_need_no_note(queue: dict[str, Any]) -> None:
    assert notes_of(Seen([queue], [master_row()], [], 0)) == []
