"""The commands that masters answer: who is asked, what is shown, and how they end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import pytest

from rqd.cli.masters import Targets, pause_masters
from rqd.client.connection import Backend, backend_for
from rqd.store.queries import Queries
from tests.cli.running import Ran, rqd
from tests.waiting import POLL_S, eventually

EX_USAGE, EX_NOINPUT, EX_UNAVAILABLE = 64, 66, 69
HOSTS = {"a": "web1", "b": "web1", "c": "web2"}


class Masters:
    """Rows of masters, and a thread that answers for those that are awake."""

    def __init__(self, url: str) -> None:
        self.there = backend_for(url)
        self.asleep: set[str] = set()
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.refusal = ""
        self.dies = False
        for name, host in HOSTS.items():
            row: dict[str, Any] = {"host": host, "state": "idle", "workers": 2, "wanted": 1}
            self.there.store.hello(name, "boot", 60, row)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        redis: Any = self.there.store.redis
        while not self._is_over.wait(POLL_S):
            for name in HOSTS.keys() - self.asleep:
                if told := redis.lpop(f"{self.there.store.keys.prefix}control:{name}"):
                    self._obey(name, json.loads(told))

    def _obey(self, name: str, command: dict[str, Any]) -> None:
        self.heard.append((name, command))
        store = self.there.store
        state = {"pause": "paused", "stop": "stopping"}.get(command["do"], "idle")
        answer: dict[str, Any] = {"state": state, "busy": 0, "workers": 3}
        if command["do"] == "scale":
            answer["were"] = 1
        if command["do"] == "reload" and not self.dies:
            self._reload(name, command)
        if self.refusal:
            answer = {"error": self.refusal}
        store.answer(command["id"], name, json.dumps(answer), 60)
        if command["do"] == "stop" or self.dies:
            store.bye(name, "boot", 1)
        else:
            store.redis.hset(store.keys.master(name), "state", state)

    def _reload(self, name: str, command: dict[str, Any]) -> None:
        redis: Any = self.there.store.redis
        row: dict[str, Any] = {"reload_requests": command["id"], "version": "9.9.9"}
        row |= {"reload": "refused" if self.refusal else "done", "reload_error": self.refusal}
        redis.hset(self.there.store.keys.master(name), mapping=row)


@pytest.fixture
def masters(redis_url: str) -> Iterator[Masters]:
    running = Masters(redis_url)
    yield running
    running.close()


@pytest.fixture
def run(redis_url: str) -> Callable[..., Ran]:
    return lambda *arguments: rqd(*arguments, url=redis_url)


def test_the_masters_of_a_host_are_asked_and_shown_with_their_answers(
    masters: Masters, run: Callable[..., Ran]
) -> None:
    ran = run("scale", "+2", "--host", "web1")

    assert (ran.status, ran.err) == (0, "")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["Masters"],
        ["master", "host", "answer"],
        ["a", "web1", "3", "workers,", "had", "1"],
        ["b", "web1", "3", "workers,", "had", "1"],
    ]
    assert sorted((name, told["by"]) for name, told in masters.heard) == [("a", 2), ("b", 2)]

    masters.heard.clear()
    assert run("scale", "-1", "--master", "c").status == 0
    assert run("scale", "4", "--master", "c", "--host", "web2").status == 0
    assert [(name, told.get("by"), told.get("to")) for name, told in masters.heard] == [
        ("c", -1, None),
        ("c", None, 4),
    ]


@pytest.mark.parametrize(
    ("words", "now"),
    [
        (["scale", "+1", "--name", "c"], "rqd scale --master c"),
        (["reload", "--no-wait", "--name=c"], "rqd reload --master c"),
        (["stop", "--no-wait", "--name", "c"], "rqd stop --master c"),
    ],
)
def test_the_former_spelling_of_master_still_chooses_it_and_names_the_new_one(
    words: list[str], now: str, masters: Masters, run: Callable[..., Ran]
) -> None:
    ran = run(*words)

    assert ran.status == 0, ran
    (note,) = ran.err.splitlines()
    assert f"is now `{now}`" in note
    eventually(lambda: [name for name, _ in masters.heard] == ["c"])
    assert "--name " not in run(words[0], "--help").out


def test_who_does_not_answer_is_told_and_the_status_is_1(
    masters: Masters, run: Callable[..., Ran]
) -> None:
    masters.asleep.add("c")

    ran = run("pause", "--all-masters", "--timeout", "0.5", "--json")

    assert (ran.status, ran.err) == (1, "")
    answer = {"state": "paused", "busy": 0, "workers": 3}
    assert sorted(json.loads(ran.out), key=lambda row: row["master"]) == [
        {"master": "a", "host": "web1", "answer": answer, "became": "drained"},
        {"master": "b", "host": "web1", "answer": answer, "became": "drained"},
        {"master": "c", "host": "web2", "answer": None, "became": ""},
    ]
    shown = run("pause", "--all-masters", "--now", "--timeout", "0.5")
    assert shown.status == 1
    assert "no answer" in shown.out
    assert "a: drained\n" in shown.out
    assert masters.heard[-1][1]["now"] is True


def test_a_master_whose_name_is_taken_over_between_two_looks_is_gone_and_has_not_drained(
    masters: Masters,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read_workers = Queries.workers

    def take_over_then_read(views: Queries, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        masters.there.store.hello("c", "another", 60, {"host": "web2", "workers": 2}, "boot")
        return read_workers(views, rows)

    monkeypatch.setattr(Queries, "workers", take_over_then_read)

    targets = Targets(redis_url, None, "c", ())
    pause_masters(targets, now=False, as_json=True, no_wait=False, timeout="10s")

    assert [row["became"] for row in json.loads(capsys.readouterr().out)] == ["gone"]


def test_a_refusal_is_told_and_the_status_is_1(masters: Masters, run: Callable[..., Ran]) -> None:
    masters.refusal = "it is stopping\x1b[2J"

    ran = run("resume", "--master", "a")

    assert ran.status == 1
    assert "refused: it is stopping\\x1b[2J" in ran.out


def test_a_pause_waits_and_says_who_was_resumed_or_is_not_done(
    masters: Masters, run: Callable[..., Ran], there: Backend
) -> None:
    store = there.store
    for number in (1, 2):
        store.redis.hset(store.keys.worker("a", number), "state", "busy")

    ran = run("pause", "--timeout", "0.3", "--master", "a")
    assert ran.status == 1
    assert "a: not done in time\n" in ran.out
    assert run("pause", "--no-wait", "--master", "a").status == 0


def test_a_reload_is_told_as_json_in_the_form_of_other_commands(
    masters: Masters, run: Callable[..., Ran]
) -> None:
    standing = {"state": "idle", "busy": 0, "workers": 1}

    ran = run("reload", "--json", "--host", "web1")

    assert (ran.status, ran.err) == (0, "")
    assert sorted(json.loads(ran.out), key=itemgetter("master")) == [
        {"master": "a", "host": "web1", "answer": standing, "became": "reloaded"},
        {"master": "b", "host": "web1", "answer": standing, "became": "reloaded"},
    ]
    told_only = run("reload", "--json", "--no-wait", "--master", "c")
    assert told_only.status == 0
    assert json.loads(told_only.out) == [
        {"master": "c", "host": "web2", "answer": None, "became": ""}
    ]
    shown = run("reload", "--master", "c").out.splitlines()
    assert shown[0] == "c: asked to reload"
    assert shown[1].startswith("c: reloaded in ")

    masters.refusal = "SyntaxError: \x1b[2J"
    refused = run("reload", "--json", "--master", "a")
    assert refused.status == 1
    (row,) = json.loads(refused.out)
    assert row["answer"] == {**standing, "error": masters.refusal}
    assert row["became"] == "refused"
    assert "a: refused, the old code serves on:\n    SyntaxError: \\x1b[2J\n" in run("reload").out


def test_a_master_that_dies_at_its_reload_is_told_as_gone(
    masters: Masters, run: Callable[..., Ran]
) -> None:
    masters.dies = True

    ran = run("reload", "--json", "--master", "a")

    assert ran.status == 1
    assert json.loads(ran.out) == [
        {"master": "a", "host": "web1", "answer": None, "became": "gone"}
    ]


@pytest.fixture
def there(redis_url: str) -> Backend:
    return backend_for(redis_url)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("scale", "0"), EX_USAGE, "scale 0: write 1 to 1,000; for no jobs write rqd pause"),
        (("scale", "1001"), EX_USAGE, "scale 1001: write 1 to 1,000"),
        (("scale", "+0"), EX_USAGE, "scale +0 changes nothing: write +1"),
        (("scale", "many"), EX_USAGE, "scale many: write 4, +2 or -1"),
        (("scale", "--hots", "web1"), EX_USAGE, "No such option: --hots"),
        (("scale", "4", "-x"), EX_USAGE, "-x"),
        (("scale",), EX_USAGE, "Missing argument 'WORKERS'"),
        (
            ("pause", "--all-masters", "--timeout", "0"),
            EX_USAGE,
            "--timeout 0: write a time above 0",
        ),
        (("pause", "--all-masters", "--timeout", "soon"), EX_USAGE, "--timeout"),
        (("pause", "--host", "wbe1"), EX_NOINPUT, "on host 'wbe1': did you mean web1?"),
        (("stop", "--master", "aa"), EX_NOINPUT, "named 'aa' is alive: did you mean a?"),
        (("reload", "--host", "x"), EX_NOINPUT, "on host 'x'; rqd info lists them"),
        (("workers", "--host", "web"), EX_NOINPUT, "on host 'web': did you mean web2?"),
        (
            ("resume", "--master", "a", "--host", "web2"),
            EX_NOINPUT,
            "no master named 'a' is alive on host 'web2': did you mean web1?",
        ),
    ],
)
def test_a_mistake_is_one_line(
    redis_url: str, arguments: tuple[str, ...], status: int, why: str
) -> None:
    for name, host in HOSTS.items():
        backend_for(redis_url).store.hello(name, "boot", 60, {"host": host})

    ran = rqd(*arguments, url=redis_url)

    assert ran.status == status, ran
    (line,) = ran.err.splitlines()
    assert line.startswith("rqd: ")
    assert why in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("scale", "4"),
        ("pause", "--all-masters"),
        ("resume", "--all-masters"),
        ("stop",),
        ("reload", "--host", "a"),
    ],
)
def test_without_a_master_there_is_nobody_to_ask(
    redis_url: str, arguments: tuple[str, ...]
) -> None:
    ran = rqd(*arguments, url=redis_url)
    assert (ran.status, ran.out) == (EX_UNAVAILABLE, "")
    assert ran.err == f"rqd: no master is running in namespace rqd at {redis_url}\n"
