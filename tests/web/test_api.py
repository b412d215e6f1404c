"""The HTTP API: tokens and scopes, bodies, idempotency keys, results, and its OpenAPI document."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from rqd import Queue
from rqd.client.connection import Backend
from rqd.model.errors import ConfigurationError
from rqd.store.audit import read_audit
from rqd.web.api.openapi import document
from rqd.web.api.tokens import RIGHTS, Token, Tokens, new_token
from tests import jobs
from tests.client.performing import claim, perform, settle
from tests.daemons import StartDaemon
from tests.lacking import needs_programs
from tests.web.conftest import Open, Served

API = "/api/v1"
PAGE = Path(__file__).parent.parent.parent / "docs" / "http-api.md"
CALL = {"function": "tests.jobs.multiply", "queue": "low", "args": [6, 7]}
Make = Callable[..., TestClient]


def token_of(name: str, **scope: Any) -> tuple[str, str]:
    """A token's text, and its table."""
    defaults: dict[str, Any] = {"queues": ["low"], "functions": ["tests.jobs.*"], "may": RIGHTS}
    return new_token(name, **(defaults | scope))


@pytest.fixture
def client(dashboard: Open, tmp_path: Path) -> Make:
    """Makes clients, each with a token of this scope."""

    def make(name: str = "shop", read_only: bool = False, **scope: Any) -> TestClient:
        text, table = token_of(name, **scope)
        path = tmp_path / f"{name}.toml"
        path.write_text(table)
        made = dashboard(api_tokens=path, read_only=read_only)
        made.headers["authorization"] = f"Bearer {text}"
        return made

    return make


def problem(answer: Any, status: int, why: str) -> None:
    """The answer is a refusal, in one line that says why, and in the shape of the document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    in_shape("Problem", told)
    assert told["status"] == status
    assert why in told["detail"]
    assert "\n" not in told["detail"]


def in_shape(schema: str, told: Any) -> None:
    whole = document()
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}"} | whole).validate(told)


# -- enqueue, state, result


def test_a_call_is_enqueued_run_and_its_result_read(client: Make, there: Backend) -> None:
    here = client()
    made = here.post(f"{API}/jobs", json=CALL)
    assert made.status_code == 201
    in_shape("Job", made.json())
    job = made.headers["location"]
    assert job == f"{API}/jobs/{made.json()['id']}"
    assert made.json()["status"] == "queued"
    early = here.get(f"{job}/result")
    assert (early.status_code, early.json()["status"]) == (202, "queued")
    in_shape("Pending", early.json())

    (held,) = claim(there, "low")
    settle(there, held, "finish", b"42")

    assert here.get(job).json()["status"] == "finished"
    ended = here.get(f"{job}/result")
    in_shape("Result", ended.json())
    assert (ended.status_code, ended.json()["result"]) == (200, 42)
    # Nothing but JSON went to Redis, so no worker unpickles what came by HTTP.
    record = there.views.job(made.json()["id"])
    assert record is not None
    assert record.serializer == "json"
    assert json.loads(record.payload) == ["tests.jobs.multiply", None, [6, 7], {}]


def test_all_options_reach_the_job(client: Make, there: Backend) -> None:
    options = {
        "kwargs": {"y": 7}, "args": [6], "delay": "10m", "retry": {"max": 3, "interval": [1, 60]},
        "job_timeout": "1h", "ttl": 100, "result_ttl": "2h", "failure_ttl": -1,
        "description": "six by seven", "meta": {"order": 4711}, "priority": 9,
        "max_memory": "200M", "max_cpu": 60,
    }  # fmt: skip
    made = client().post(f"{API}/jobs", json=CALL | options)
    assert made.status_code == 201, made.text
    record = there.views.job(made.json()["id"])
    assert record is not None
    assert (record.timeout_s, record.ttl_s, record.result_ttl_s) == (3600, 100, 7200)
    assert (record.retries_left, record.priority, record.failure_ttl_s) == (3, 9, -1)
    assert record.description == "six by seven"
    assert json.loads(record.meta) == {"order": 4711}
    assert record.due_us is not None
    assert record.created_us is not None
    assert record.due_us - record.created_us == 600_000_000
    assert "max_memory" in record.terms or "memory" in record.terms
    later = client().post(f"{API}/jobs", json=CALL | {"at": "2200-01-01T00:00:00Z", "retry": 2})
    assert later.json()["due"] == "2200-01-01T00:00:00+00:00"


def test_a_failure_is_answered_with_its_cause(client: Make, there: Backend) -> None:
    here = client(functions=["tests.jobs.*"])
    job = here.post(f"{API}/jobs", json=CALL | {"args": ["a", "b"]}).headers["location"]
    perform(there, "low")
    told = here.get(f"{job}/result").json()
    assert (told["status"], told["result"]) == ("failed", None)
    in_shape("Result", told)


def test_a_waiting_job_is_canceled_and_the_audit_says_by_which_token(
    client: Make, there: Backend
) -> None:
    here = client()
    job = here.post(f"{API}/jobs", json=CALL).headers["location"]
    gone = here.post(f"{job}/cancel")
    assert (gone.status_code, gone.json()["status"]) == (200, "canceled")
    problem(here.post(f"{job}/cancel", json={"stop": 1}), 422, '{"stop": true}')
    assert perform(there, "low") == 0
    (entry,) = read_audit(there.store, None, 10)
    assert (entry.deed.who, entry.deed.action) == ("token shop", "cancel")


# -- idempotency keys


def test_a_request_sent_again_with_its_key_returns_the_same_job(
    client: Make, there: Backend
) -> None:
    here, key = client(), {"Idempotency-Key": "order-4711"}
    first = here.post(f"{API}/jobs", json=CALL, headers=key)
    again = here.post(f"{API}/jobs", json=CALL, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert perform(there, "low") == 1
    # Also once it has ended: it does not run again.
    ended = here.post(f"{API}/jobs", json=CALL, headers=key)
    assert (ended.status_code, ended.json()["status"]) == (200, "finished")
    assert perform(there, "low") == 0
    record = there.views.job(first.json()["id"])
    assert record is not None
    assert (record.result_ttl_s, record.failure_ttl_s) == (86_400, 86_400)

    other = CALL | {"args": [1, 2]}
    problem(here.post(f"{API}/jobs", json=other, headers=key), 422, "another body before")
    stranger = client("stranger").post(f"{API}/jobs", json=other, headers=key)
    assert stranger.status_code == 201  # each token has its own keys

    there.redis.delete(there.store.keys.job(record.id))
    problem(here.post(f"{API}/jobs", json=CALL, headers=key), 410, "has ended")
    problem(here.post(f"{API}/jobs", json=CALL, headers={"Idempotency-Key": "x" * 256}), 400, "255")


def test_a_job_that_outlives_its_key_is_still_the_same_job(client: Make, there: Backend) -> None:
    here, key = client(), {"Idempotency-Key": "later"}
    first = here.post(f"{API}/jobs", json=CALL | {"delay": "2d"}, headers=key)
    (held,) = there.redis.keys(f"{there.store.keys.prefix}unique:*")
    there.redis.delete(held)  # as a day later

    again = here.post(f"{API}/jobs", json=CALL | {"delay": "2d"}, headers=key)

    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.json()["status"] == "scheduled"


def test_many_at_once_with_one_key_make_one_job(client: Make, there: Backend) -> None:
    here, key = client(), {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda _: here.post(f"{API}/jobs", json=CALL, headers=key), range(16))
        )
    assert sorted({one.status_code for one in found}) == [200, 201]
    assert len({one.json()["id"] for one in found}) == 1
    assert sum(one.status_code == 201 for one in found) == 1
    assert perform(there, "low") == 1


# -- tokens


def test_without_a_tokens_file_the_api_says_how_to_turn_it_on(dashboard: Open) -> None:
    problem(dashboard().post(f"{API}/jobs", json=CALL), 403, "--api-tokens FILE")


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Bearer ", "Basic c2hvcDp4", "Bearer\x00"])
def test_a_request_needs_a_token_of_the_file(client: Make, header: str) -> None:
    here = client()
    here.headers["authorization"] = header
    answer = here.post(f"{API}/jobs", json=CALL)
    problem(answer, 401, "Authorization: Bearer TOKEN")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_dashboards_own_login_opens_no_door_of_the_api(dashboard: Open, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(token_of("a")[1])
    here = dashboard(api_tokens=tmp_path / "t", auth=lambda _: "all")
    assert here.get("/").status_code == 200
    problem(here.post(f"{API}/jobs", json=CALL), 401, "Bearer")
    closed = dashboard(api_tokens=tmp_path / "t", auth=lambda _: None)
    assert closed.get("/").status_code == 403
    assert closed.get(f"{API}/openapi.json").status_code == 200


def test_a_token_does_only_what_its_scope_covers(client: Make, there: Backend) -> None:
    job = client("all", queues=["*"], functions=["*"]).post(
        f"{API}/jobs", json=CALL | {"queue": "high"}
    )
    where = job.headers["location"]
    here = client()
    for call in (
        CALL | {"queue": "high"},
        CALL | {"function": "os.system"},
        CALL | {"function": "tests.jobsx.multiply"},
    ):
        problem(here.post(f"{API}/jobs", json=call), 403, "may not enqueue")
    for answer in (here.get(where), here.get(f"{where}/result"), here.post(f"{where}/cancel")):
        problem(answer, 404, "no job")
    problem(here.get(f"{API}/jobs/nobody"), 404, "no job")
    problem(here.get(f"{API}/jobs/no:body"), 404, "no job")
    reader = client("reader", may=["read"])
    problem(reader.post(f"{API}/jobs", json=CALL), 403, "may not enqueue")
    writer = client("writer", may=["enqueue"])
    own = writer.post(f"{API}/jobs", json=CALL).headers["location"]
    problem(writer.get(own), 403, "may not read")
    problem(writer.post(f"{own}/cancel"), 403, "may not cancel")
    assert reader.get(own).status_code == 200
    problem(client("late", read_only=True).post(f"{API}/jobs", json=CALL), 403, "may not enqueue")
    assert there.views.queue_names() == ["high", "low"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no token"),
        ("[a", "cannot be read"),
        ("a = 1", "nothing else"),
        ('[a]\nsha256 = "x"\nqueues=["*"]\nfunctions=["*"]', "sha256"),
        (f'[a]\nsha256 = "{"0" * 64}"\nqueues=["*"]', "functions: write a list"),
        (f'[a]\nsha256 = "{"0" * 64}"\nqueues=[]\nfunctions=["*"]', "queues: write a list"),
        (f'[a]\nsha256 = "{"0" * 64}"\nqueues="*"\nfunctions=["*"]', "queues: write a list"),
        (f'[a]\nsha256 = "{"0" * 64}"\nqueues=["*"]\nfunctions=["*"]\nmay=["all"]', "may"),
        (f'["a b"]\nsha256 = "{"0" * 64}"\nqueues=["*"]\nfunctions=["*"]', "a name has letters"),
        (f'[a]\nsha256 = "{"0" * 64}"\nqueue=["*"]\nfunctions=["*"]', "nothing else"),
    ],
)
def test_a_tokens_file_with_a_mistake_is_refused_in_one_line(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=why) as refused:
        Tokens.read(tmp_path / "t.toml")
    assert "\n" not in str(refused.value)


def test_a_tokens_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(token_of("a")[1])
    path.chmod(0o620)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Tokens.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Tokens.read(tmp_path / "none")


def test_a_token_is_made_and_its_file_has_no_text_of_it(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "rqd", "api-token", "shop", "-q", "mail-*", "-q", 'a"b',
         "--function", "shop.*", "--may", "enqueue"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    text = made.stderr.split()[-1]
    assert text not in made.stdout
    path = tmp_path / "t.toml"
    path.write_text(made.stdout)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    found = Tokens.read(path).find(text)
    assert found == Token("shop", found.sha256, ("mail-*", 'a"b'), ("shop.*",), {"enqueue"})  # type: ignore[union-attr, arg-type]  # a set equals it
    wrong = subprocess.run(
        [sys.executable, "-m", "rqd", "api-token", "a b", "-q", "x", "--function", "y"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert wrong.returncode == 64
    assert len(wrong.stderr.splitlines()) == 1


# -- bad requests


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"function": None}, "function: write a text"),
        ({"function": "print"}, "dotted name"),
        ({"function": "a..b"}, "dotted name"),
        ({"function": "tests.jobs.multiply()"}, "dotted name"),
        ({"function": "a" * 300 + "." + "b" * 300}, "dotted name"),
        ({"queue": ""}, "queue: write a text"),
        ({"queue": "a b"}, "queue"),
        ({"args": {}}, "args: write a list"),
        ({"kwargs": []}, "kwargs: write an object"),
        ({"at": "tomorrow"}, "instant with its zone"),
        ({"at": "2030-01-01T00:00:00"}, "instant with its zone"),
        ({"at": "9999-01-01T00:00:00Z"}, "2255"),
        ({"at": 5}, "instant with its zone"),
        ({"delay": -1}, "delay"),
        ({"delay": "soon"}, "delay"),
        ({"delay": 1, "at": "2200-01-01T00:00:00Z"}, "one of the two"),
        ({"retry": 0}, "Retry"),
        ({"retry": True}, "retry: write a number"),
        ({"retry": {"max": 1, "only": ["x"]}}, "retry: write a number"),
        ({"retry": {"max": 1, "interval": "x"}}, "Retry"),
        ({"job_timeout": "x"}, "job_timeout"),
        ({"job_timeout": True}, "job_timeout"),
        ({"priority": 5000}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"meta": [1]}, "meta"),
        ({"max_memory": "much"}, "max_memory"),
        ({"job_id": "mine"}, "is no field"),
        ({"on_success": "os.system"}, "is no field"),
        ({"x\ny": 1}, "is no field"),
    ],
)
def test_a_bad_value_is_refused_with_what_to_write(
    client: Make, there: Backend, more: dict[str, Any], why: str
) -> None:
    here = client(queues=["*"], functions=["*"])
    problem(here.post(f"{API}/jobs", json=CALL | more), 422, why)
    assert there.views.queue_names() == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "why"),
    [
        (b"{", "application/json", 422, "no JSON"),
        (b"[]", "application/json", 422, "no object"),
        (b'{"args": [NaN]}', "application/json", 422, "NaN"),
        (b"\xff", "application/json", 422, "no JSON"),
        (b'{"args": ' + b"[" * 100_000, "application/json", 422, "no JSON"),
        (b'{"args": [' + b"9" * 10_000 + b"]}", "application/json", 422, "no JSON"),
        (b"{}", "text/plain", 415, "Content-Type"),
        (b"{}", "application/x-www-form-urlencoded", 415, "Content-Type"),
        (b" " * 1_048_577, "application/json", 413, "1,048,576"),
    ],
)
def test_a_bad_body_is_refused(client: Make, body: bytes, kind: str, status: int, why: str) -> None:
    answer = client().post(f"{API}/jobs", content=body, headers={"content-type": kind})
    problem(answer, status, why)


def test_addresses_methods_and_waits_that_are_none_are_refused(client: Make) -> None:
    here = client()
    problem(here.get(f"{API}/nothing"), 404, "no such address")
    problem(here.get(f"{API}/jobs"), 405, "does not take that method")
    job = here.post(f"{API}/jobs", json=CALL).headers["location"]
    for wait in ("x", "-1", "61", "nan", "inf"):
        problem(here.get(f"{job}/result", params={"wait": wait}), 422, "0 to 60 seconds")


def test_a_result_that_is_no_json_is_named_and_not_unpickled(client: Make, there: Backend) -> None:
    job = Queue("low", there).enqueue(jobs.multiply, 6, 7)
    perform(there, "low")
    problem(client().get(f"{API}/jobs/{job.id}/result"), 409, "stored by pickle")


def test_a_redis_that_is_away_is_said(dashboard: Open, tmp_path: Path) -> None:
    text, table = token_of("shop")
    (tmp_path / "t").write_text(table)
    here = dashboard(url="redis://127.0.0.1:1", api_tokens=tmp_path / "t")
    here.headers["authorization"] = f"Bearer {text}"
    problem(here.post(f"{API}/jobs", json=CALL), 503, "127.0.0.1:1")
    problem(here.get(f"{API}/jobs/a"), 503, "127.0.0.1:1")


# -- the document, and a real server


def test_the_document_is_valid_and_open_to_all(dashboard: Open) -> None:
    told = dashboard().get(f"{API}/openapi.json").json()
    validate(told)
    assert told == document()
    routes = {f"{API}{path}" for path in told["paths"]}
    assert routes == {
        f"{API}/jobs", f"{API}/jobs/{{id}}", f"{API}/jobs/{{id}}/result",
        f"{API}/jobs/{{id}}/cancel",
    }  # fmt: skip


def test_a_request_waits_for_the_end_of_a_signed_job(
    start_daemon: StartDaemon, redis_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RQD_SIGNING_KEY", "k" * 40)
    text, table = token_of("shop")
    (tmp_path / "t").write_text(table)
    start_daemon(queues="low", workers=1)
    with (
        Served("--api-tokens", str(tmp_path / "t"), url=redis_url) as served,
        _client(served.address, text) as here,
    ):
        call = CALL | {"function": "tests.jobs.slowly_multiply"}
        job = here.post("api/v1/jobs", json=call).json()["id"]
        began = time.monotonic()
        ended = here.get(f"api/v1/jobs/{job}/result", params={"wait": 15})
        assert (ended.status_code, ended.json()["result"]) == (200, 42)
        assert time.monotonic() - began < 10
        delayed = here.post("api/v1/jobs", json=call | {"delay": 60}).json()["id"]
        waited = here.get(f"api/v1/jobs/{delayed}/result", params={"wait": 0.2})
        assert waited.status_code == 202


CLIENTS = {"sh": ["bash", "-eu"], "js": ["node", "--input-type=module"]}


@pytest.mark.parametrize("language", list(CLIENTS))
def test_the_clients_of_the_page_work_as_they_stand_there(
    start_daemon: StartDaemon, redis_url: str, tmp_path: Path, language: str
) -> None:
    needs_programs(CLIENTS[language][0] if language == "js" else "curl")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (block,) = (one for one in blocks if "RQD_TOKEN" in one)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "tasks.py").write_text("def send(address):\n    return f'sent to {address}'\n")
    text, table = token_of("shop", queues=["mail"], functions=["shop.tasks.*"])
    (tmp_path / "t").write_text(table)
    start_daemon("--path", str(tmp_path), queues="mail", workers=1)
    with Served("--api-tokens", str(tmp_path / "t"), url=redis_url) as served:
        env = {"RQD_API": f"{served.address}api/v1", "RQD_TOKEN": text}
        ran = subprocess.run(
            CLIENTS[language], input=block, env=os.environ | env, cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "finished" in ran.stdout.splitlines()[-1]
    assert "sent to ann@example.org" in ran.stdout


def _client(address: str, text: str) -> Any:
    import httpx2

    return httpx2.Client(base_url=address, headers={"authorization": f"Bearer {text}"}, timeout=20)
