"""The pages that search: jobs by words, groups of failures, and bulk actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rqd.store.bulk import Bulk
from rqd.web.access import Access
from tests.store.driving import Driver, job, settlement
from tests.waiting import eventually
from tests.web.conftest import Open, token_in

CRASH, RAISED = "crashed: SIGSEGV", "raised ValueError: no luck"


@pytest.fixture
def rqd(redis_url: str) -> Driver:
    return Driver(redis_url)


def fail(rqd: Driver, count: int, cause: str, function: str, queue: str = "low") -> list[str]:
    """Has so many jobs fail; returns their ids."""
    names = (f"{function[4:]}-{queue}-{number}" for number in range(count))
    made = [replace(job(name, queue), func_name=function) for name in names]
    for first in range(0, count, 200):
        rqd.enqueue(*made[first : first + 200])
        claims = rqd.claim(200, queue)
        rqd.turn(*(settlement(one, "fail", cause=cause) for one in claims))
    return [one.id for one in made]


@pytest.fixture
def failed(rqd: Driver) -> Driver:
    fail(rqd, 3, CRASH, "app.crash")
    fail(rqd, 2, RAISED, "app.bad", queue="mail")
    return rqd


def rows(client: Any, **params: str) -> list[str]:
    return [one["id"] for one in client.get("/jobs.json", params=params).json()["jobs"]]


def test_words_choose_the_jobs_of_the_list(failed: Driver, dashboard: Open) -> None:
    client = dashboard()
    assert len(rows(client)) == 5
    assert len(rows(client, filter="cause:crashed")) == 3
    assert len(rows(client, filter="queue:mail function:app.*")) == 2
    assert rows(client, filter="queue:mail cause:crashed") == []
    assert rows(client, filter="state:queued") == []
    page = client.get("/jobs", params={"filter": "cause:crashed"}).text
    assert "3 of 5 searched" in page or "5 of 5 searched" in page
    assert 'value="cause:crashed"' in page


def test_a_word_that_is_none_is_said_beside_the_box_and_nothing_is_listed(
    failed: Driver, dashboard: Open
) -> None:
    answer = dashboard().get("/jobs", params={"filter": "colour:<b>red"})
    assert answer.status_code == 200
    assert "is no filter word: write state:, queue:" in answer.text
    assert "<b>red" not in answer.text
    assert "app.crash" not in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_functions_and_queues_of_the_lists_lead_to_their_jobs(
    failed: Driver, dashboard: Open
) -> None:
    client = dashboard()
    link = re.search(
        r'href="(/jobs\?[^"]*filter=function[^"]*app\.bad[^"]*)"', client.get("/jobs").text
    )
    assert link
    shown = client.get(link[1].replace("&amp;", "&")).text
    assert "app.bad" in shown
    assert "app.crash" not in shown


def test_failures_are_grouped_and_a_group_is_a_filter(failed: Driver, dashboard: Open) -> None:
    client = dashboard()
    found = client.get("/failures.json").json()

    groups = [(one["kind"], one["function"], one["jobs"]) for one in found["groups"]]
    assert groups == [("crashed", "app.crash", 3), ("raised", "app.bad", 2)]
    assert (found["is_whole"], found["jobs"], found["total"]) == (True, 5, 5)
    assert len(rows(client, filter=found["groups"][0]["filter"])) == 3
    page = client.get("/failures").text
    assert "app.crash" in page
    assert "/bulk?act=retry" in page


def test_groups_of_hidden_queues_are_not_counted(failed: Driver, dashboard: Open) -> None:
    client = dashboard(auth=lambda _: Access("ann", queues=("mail",)))
    found = client.get("/failures.json").json()
    assert [one["function"] for one in found["groups"]] == ["app.bad"]
    nobody = dashboard(auth=lambda _: Access("bob", queues=("other-*",)))
    assert nobody.get("/failures.json").json()["groups"] == []
    assert nobody.get("/jobs.json").json()["jobs"] == []


def ask(client: Any, act: str, words: str, state: str = "failed") -> dict[str, Any]:
    asked = {"act": act, "filter": words, "state": state}
    found: dict[str, Any] = client.get("/bulk.json", params=asked).json()
    return found


def start(client: Any, act: str, words: str, state: str = "failed") -> Any:
    asked = {"act": act, "filter": words, "state": state}
    token = token_in(client.get("/bulk", params=asked).text)
    return client.post(f"/do/{act}-all", data={**asked, "token": token}, follow_redirects=False)


def result(client: Any, act: str, words: str, state: str = "failed") -> str:
    """Waits for the end of a run, and returns its result."""
    eventually(lambda: (ask(client, act, words, state)["run"] or {}).get("is_over"), 10.0)
    found: str = ask(client, act, words, state)["run"]["result"]
    return found


def test_all_that_match_run_again_after_a_count_and_a_question(
    failed: Driver, dashboard: Open
) -> None:
    client = dashboard()
    page = client.get("/bulk", params={"act": "retry", "filter": "cause:crashed"}).text
    assert "<b>3</b> jobs match" in page
    assert 'action="/do/retry-all"' in page
    assert "Retry 3" in page
    assert failed.views.queue_counts(["low"])[0].ready == 0

    assert start(client, "retry", "cause:crashed").status_code == 303
    assert result(client, "retry", "cause:crashed") == "3 done"

    assert failed.views.queue_counts(["low"])[0].ready == 3
    assert failed.views.queue_counts(["mail"])[0].failed == 2
    entries = client.get("/audit.json").json()["entries"]
    deeds = [(one["action"], one["result"]) for one in entries]
    assert ("retry-all", "3 done") in deeds
    assert ("retry-all", "started: state:failed cause:crashed") in deeds
    assert (
        "Back to the list"
        in client.get("/bulk", params={"act": "retry", "filter": "cause:crashed"}).text
    )


def test_two_thousand_jobs_are_deleted_and_an_operator_ends_it_half_way(
    rqd: Driver, dashboard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(rqd, 2000, RAISED, "app.bad")
    client = dashboard()
    steps = Bulk.steps

    def slowly(self: Bulk, *args: Any, **options: Any) -> Iterator[Any]:
        for number, one in enumerate(steps(self, *args, **options)):
            yield one
            if number == 0:
                eventually(lambda: ended, 10.0)

    ended: list[bool] = []
    monkeypatch.setattr(Bulk, "steps", slowly)
    start(client, "delete", "queue:low")
    eventually(lambda: ask(client, "delete", "queue:low")["run"]["done"] > 0, 10.0)
    assert start(client, "delete", "queue:low").status_code == 400  # it runs already

    asked = {"act": "delete", "filter": "queue:low", "state": "failed"}
    token = token_in(client.get("/bulk", params=asked).text)
    said = client.post("/do/end-bulk", data={**asked, "token": token})
    assert "ends after this step" in said.text
    ended.append(True)

    assert result(client, "delete", "queue:low").endswith("ended by an operator")
    left = rqd.views.queue_counts(["low"])[0].failed
    assert 0 < left < 2000
    again = client.get("/bulk.json", params={**asked, "again": "1"}).json()
    assert again["count"]["jobs"] == left


def test_waiting_jobs_are_canceled_and_running_ones_are_no_bulk(
    rqd: Driver, dashboard: Open
) -> None:
    rqd.enqueue(*(job(f"w{number}") for number in range(5)))
    client = dashboard()
    start(client, "cancel", "", "queued")
    assert result(client, "cancel", "", "queued") == "5 done"
    assert rqd.views.queue_counts(["low"])[0].canceled == 5
    answer = client.get("/bulk", params={"act": "cancel", "state": "started"})
    assert answer.status_code == 400


def test_a_bulk_action_needs_its_own_right_and_no_hidden_queue(
    failed: Driver, dashboard: Open
) -> None:
    client = dashboard(auth=lambda _: Access("ann", frozenset({"requeue"})))
    assert "/bulk?act=retry" not in client.get("/jobs").text
    other = dashboard(auth=lambda _: Access("ann", queues=("mail",)))
    assert ask(other, "retry", "")["count"]["jobs"] == 2
    assert other.get("/bulk", params={"act": "retry", "filter": "queue:low"}).status_code == 404


@pytest.mark.parametrize("query", ["", "act=eat", "act=retry&filter=x", "act=retry&state=nix"])
def test_a_bad_bulk_address_is_a_page_with_an_error(dashboard: Open, query: str) -> None:
    assert dashboard().get(f"/bulk?{query}").status_code == 400
