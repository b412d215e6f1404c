"""Callbacks and webhooks: what the end of a job makes, with a worker of a few lines."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from rqd import Callback, Job, Queue, SimpleWorker, Webhook
from rqd.callbacks import callback_arguments, failure_of
from rqd.client.connection import Backend, backend_for, using
from rqd.daemon.admission import Admission
from rqd.daemon.config import Config
from rqd.decorators import job as job_decorator
from rqd.exceptions import (
    AbandonedJobError,
    ConfigurationError,
    InvalidCallError,
    JobFailedError,
    JobTimeoutException,
    ServerUnavailableError,
    SignatureError,
)
from rqd.model.outcome import Outcome
from rqd.model.records import Claim
from rqd.model.signing import Keyring
from rqd.model.terms import dump_terms
from rqd.store.messages import Settlement, Turn
from tests.client import work
from tests.client.performing import claim, perform, perform_one, settle
from tests.servers import RedisServer

KEY = "a-key-of-enough-characters"
THRICE: Any = 3  # where a Retry is wanted
EVERY = ("on_success", "on_failure", "on_stopped")
MANY = {"failure_ttl": [], **{f"field {n}": "x" for n in range(9000)}}
heard: list[tuple[Any, ...]] = []


def hear(*told: Any) -> None:
    heard.append(told)


class Listener:
    def hear(self, *told: Any) -> None:
        heard.append(told)


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def test_a_callback_that_starts_while_the_server_is_away_waits_for_it(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with using(backend_for(own_server.url)):
        job = Queue().enqueue(work.multiply, 1, 2)
        own_server.command("SAVE")
        own_server.stop()
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            own_server.start(keep_data=True)

        monkeypatch.setattr("rqd.client.callback_runtime.sleep", wait)
        terms = dump_terms({"callback": {"of": job.id, "on": "finished", "webhook": True}})
        (told, _) = callback_arguments(terms)
        assert (told.id, len(waits)) == (job.id, 1)
        own_server.stop()
        monkeypatch.setattr("rqd.client.callback_runtime._PATIENCE_S", 0.0)
        with pytest.raises(ServerUnavailableError):
            callback_arguments(terms)


@pytest.fixture
def signing(backend: Backend) -> Backend:
    return Backend(backend.store, backend.url, Keyring([KEY]))


def callbacks(job: Job[Any]) -> list[Job[Any]]:
    job.refresh()
    return [made for made in Job.fetch_many(job.callback_ids, job._backend) if made is not None]


def fail_once(backend: Backend, job: Job[Any]) -> None:
    (held,) = claim(backend)
    assert held.id == job.id
    settle(backend, held, "fail", cause="raised no")


def judged(backend: Backend, held: Claim) -> Outcome | None:
    config = Config(backend.url, keyring=Keyring([KEY]), require_signed=True)
    return Admission(config).judge(held)


def test_each_end_makes_its_own_callback_before_all_that_wait(backend: Backend) -> None:
    queue = Queue()
    good = queue.enqueue(work.multiply, 3, 4, **dict.fromkeys(EVERY, hear))
    bad = queue.enqueue(work.fail, "no", **dict.fromkeys(EVERY, hear))
    waiting = queue.enqueue(work.multiply, 1)
    first, second = claim(backend, count=2)
    settle(backend, first, "finish")
    settle(backend, second, "fail", cause="raised no")
    (after_good,), (after_bad,) = callbacks(good), callbacks(bad)
    assert queue.job_ids == [after_bad.id, after_good.id, waiting.id]
    assert after_good.description == f"tests.client.test_callbacks.hear: {good.id} finished"
    assert after_bad.description == f"tests.client.test_callbacks.hear: {bad.id} failed"


def test_callbacks_are_called_with_what_rqs_are_when_the_result_is_there(backend: Backend) -> None:
    queue = Queue()
    good = queue.enqueue(work.multiply, 3, 4, on_success=Callback(Listener().hear, timeout="5m"))
    bad = queue.enqueue(work.fail, "no", on_failure="tests.client.test_callbacks.hear")
    perform(backend)
    by_id = {told[0].id: told for told in heard}
    job, connection, result = by_id[good.id]
    assert (job.get_status(), result, connection.ping()) == ("finished", 12, True)
    job, _, kind, error, traceback = by_id[bad.id]
    assert (job.get_status(), kind, traceback) == ("failed", ValueError, None)
    assert "raise ValueError(message)" in error.__notes__[0]
    (made,) = callbacks(good)
    assert (made.timeout, made.get_status()) == (300, "finished")
    assert made.func_name == "tests.client.test_callbacks.Listener.hear"


def test_a_settle_that_is_sent_again_makes_its_callback_once(backend: Backend) -> None:
    queue = Queue()
    job = queue.enqueue(work.multiply, 1, on_success=hear)
    (held,) = claim(backend)
    turn = Turn("r", "m", 15_000_000, (Settlement(held.id, held.token, 1, "finish"),))
    assert [backend.store.turn(turn).verdicts for _ in range(2)] == [("settled",)] * 2
    assert settle(backend, held, "finish") == "already"
    assert queue.job_ids == [made.id for made in callbacks(job)]
    assert len(queue.job_ids) == 1


def test_a_failure_is_told_when_it_is_final(backend: Backend) -> None:
    from rqd import Retry

    job = Queue().enqueue(work.fail, "no", retry=Retry(max=1), on_failure=hear)
    settle(backend, claim(backend)[0], "retry")
    assert callbacks(job) == []
    settle(backend, claim(backend)[0], "fail", cause="raised no")
    assert len(callbacks(job)) == 1


def test_a_job_given_up_after_losses_is_told_of_too(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1, on_failure=hear)
    for _ in range(3):
        settle(backend, claim(backend)[0], "lose", cause="lost with its host")
    assert len(callbacks(job)) == 1
    perform(backend)
    ((_, _, kind, error, _),) = heard
    assert kind is AbandonedJobError
    assert "lost with its host" in str(error)


def test_a_callback_that_fails_leaves_its_job_as_it_is(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3, 4, on_success=work.fail)
    perform(backend)
    assert job.is_finished
    assert job.return_value() == 12
    (made,) = callbacks(job)
    assert made.is_failed
    assert "raised TypeError" in (made.cause or "")


def test_every_end_of_a_job_has_a_callback_of_its_own(signing: Backend) -> None:
    job = Queue(connection=signing).enqueue(work.multiply, 1, on_failure=hear)
    fail_once(signing, job)
    job.requeue(at_front=True)
    fail_once(signing, job)
    first, second = callbacks(job)
    assert second.id.startswith(f"{first.id}-")
    for held in claim(signing, count=2):
        assert judged(signing, held) is None
    assert (first.func, second.func) == (hear, hear)


def test_every_run_of_a_repeated_job_is_a_success(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3, 4, on_success=hear)
    for number in range(50):
        (held,) = claim(backend)
        settle(backend, held, "repeat", result=pickle.dumps(number))
        (made,) = claim(backend)
        perform_one(backend, made)
    assert [result for _, _, result in heard] == list(range(50))
    assert job.is_queued
    assert 30 < len(job.callback_ids) < 50  # the latest
    assert Job.fetch(job.callback_ids[-1]).is_finished


def test_a_callback_that_comes_late_is_told_of_the_end_that_made_it(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 3, 4, on_success=hear, on_failure=hear)
    late: list[Claim] = []
    for number in range(3):
        *made, held = claim(backend, count=9)
        late += made
        settle(backend, held, "repeat", result=pickle.dumps(number))
    for text in ("first", "second"):
        *made, held = claim(backend, count=9)
        late += made
        settle(backend, held, "fail", exc_type="builtins.ValueError", exc_message=text)
        job.requeue()
    *made, held = claim(backend, count=9)

    for callback in (*late, *made):
        perform_one(backend, callback)

    assert held.id == job.id
    assert [told[2] for told in heard[:3]] == [0, 1, 2]
    assert [str(told[3]) for told in heard[3:]] == ["first", "second"]


def test_a_callback_finds_a_job_whose_record_would_be_gone(backend: Backend) -> None:
    job = Queue().enqueue(work.echo, "x" * 70_000, result_ttl=0, on_success=hear)
    other = Queue().enqueue(work.multiply, 1, result_ttl=0, on_failure=hear)
    perform(backend)
    ((_, _, result),) = heard
    assert result == (("x" * 70_000,), {})
    keys = backend.store.keys
    for key in (keys.job(job.id), keys.results(job.id), keys.result(job.id)):
        assert 3500 < backend.store.redis.ttl(key) <= 3600
    assert not Job.exists(other.id)


def test_what_was_changed_in_redis_is_refused(signing: Backend) -> None:
    queue, keys = Queue(connection=signing), signing.store.keys
    job = queue.enqueue(work.multiply, 1, on_failure=hear)
    stored = signing.store.redis.hget(keys.job(job.id), "terms") or b""
    assert isinstance(stored, bytes)
    planted = stored.replace(b"hear", b"hare")
    signing.store.redis.hset(keys.job(job.id), "terms", planted)
    (held,) = claim(signing)
    assert judged(signing, held) is not None
    # Whoever lets it run nevertheless makes a callback that is signed no better.
    settle(signing, held, "fail")
    (made,) = claim(signing)
    assert judged(signing, made) is not None
    with pytest.raises(SignatureError):
        _ = callbacks(job)[0].func


@pytest.mark.parametrize(
    "planted",
    [
        {"callbacks": 1},
        {"callbacks": [1, None, [], {"on": "finished"}]},
        {"callbacks": [{"on": "finished", "id": "a b", "queue": "q", "payload": "", "fields": {}}]},
        {
            "callbacks": [
                {"on": "finished", "id": "a", "queue": "q", "payload": "zz", "fields": [1]}
            ]
        },
        {"callbacks": [{"on": "finished", "id": "a", "queue": 1, "payload": "zz", "fields": {}}]},
        {"callbacks": {"on": "finished"}},
    ],
)
def test_damaged_callbacks_keep_no_job_from_its_end(backend: Backend, planted: Any) -> None:
    job = Queue().enqueue(work.multiply, 1)
    text = json.dumps(planted)
    backend.store.redis.hset(backend.store.keys.job(job.id), "terms", text)
    (held,) = claim(backend)
    assert settle(backend, held, "finish") == "settled"
    assert job.is_finished
    for made in claim(backend, "default", "q", count=5):
        settle(backend, made, "fail")


def test_a_callback_whose_queue_is_damaged_fails_and_its_job_ends(backend: Backend) -> None:
    job = Queue().enqueue(work.multiply, 1, on_success=hear)
    (held,) = claim(backend)
    backend.store.redis.set(backend.store.keys.ready("default"), "no sorted set")
    assert settle(backend, held, "finish") == "settled"
    (made,) = callbacks(job)
    assert made.cause == "damaged: the key of its queue in Redis holds something else"


@pytest.mark.parametrize(
    ("exc_type", "kind"),
    [
        ("builtins.KeyError", KeyError),
        ("rqd.exceptions.JobTimeoutException", JobTimeoutException),
        ("json.decoder.JSONDecodeError", json.JSONDecodeError),
        ("antigravity.Error", JobFailedError),
        ("os.system", JobFailedError),
        ("", JobFailedError),
    ],
)
def test_a_failure_is_rebuilt_without_importing_or_calling_anything(
    backend: Backend, exc_type: str, kind: type
) -> None:
    import sys

    job = Queue().enqueue(work.multiply, 1)
    settle(backend, claim(backend)[0], "fail", cause="why", exc_type=exc_type, exc_message="text")
    job.refresh()
    error = failure_of(job, job.latest_result())
    assert type(error).__name__ == kind.__name__
    assert error.args == (("why",) if kind is JobFailedError else ("text",))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["ExceptionGroup", "UnicodeDecodeError", "SyntaxError"])
def test_a_failure_whose_type_can_not_show_the_text_is_a_job_failed_error(name: str) -> None:
    told = SimpleNamespace(
        details={"exc_type": f"builtins.{name}", "exc_message": "why it failed"},
        cause=f"raised {name}: why it failed",
        exc_string="",
    )
    job = SimpleNamespace(cause=None)  # all that is asked of one
    error = failure_of(job, told)  # type: ignore[arg-type]  # no Job
    assert isinstance(error, JobFailedError)
    assert "why it failed" in str(error)


def test_every_way_to_enqueue_takes_callbacks(backend: Backend) -> None:
    queue, done = Queue("emails"), Callback(hear)
    decorated = job_decorator("emails", on_success=done)(work.multiply)
    jobs = [
        decorated.delay(1),
        decorated.enqueue(1),
        queue.enqueue_call(work.multiply, (1,), on_success=done),
        *queue.enqueue_many([Queue.prepare_data(work.multiply, (1,), on_success=hear)] * 2),
    ]
    perform(backend, "emails")
    assert [told[0].id for told in heard] == [job.id for job in jobs]


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: Callback(lambda *_: None), InvalidCallError, "a lambda has no name"),
        (lambda: Callback(hear, timeout=0), ConfigurationError, "timeout 0"),
        (lambda: Callback(3), InvalidCallError, "not callable"),
        (lambda: Callback(hear, retry=THRICE), ConfigurationError, r"write retry=Retry\("),
        (lambda: Queue.prepare_data(hear, webhooks=["http://a"]), InvalidCallError, "Webhook"),
        (lambda: Webhook("file:///etc/passwd", "finished"), ConfigurationError, "http://"),
        (lambda: Webhook("http://me:secret@a/", "failed"), ConfigurationError, "headers="),
        (lambda: Webhook("http://a:b/?key=secret", "failed"), ConfigurationError, "port"),
        (lambda: Webhook("http://a/b c?key=secret", "failed"), ConfigurationError, "space"),
        (lambda: Webhook("http://a", "canceled"), ConfigurationError, "finished or failed"),
        (lambda: Webhook("http://a", "failed", method="PUT"), ConfigurationError, "GET or POST"),
        (lambda: Webhook("http://a", "failed", headers={"a": "b\nc"}), ConfigurationError, "dict"),
        (lambda: Webhook("http://a", "failed", timeout=0), ConfigurationError, "seconds"),
        (lambda: Webhook("http://a", "failed", retry=THRICE), ConfigurationError, "Retry"),
    ],
)
def test_what_can_not_be_called_is_refused_at_once(make: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told) as refusal:
        make()
    assert "secret" not in str(refusal.value)


def test_a_webhook_shows_the_timeout_it_was_given_and_its_process_may_take_longer(
    backend: Backend,
) -> None:
    webhook = Webhook("https://a.example/hook", "finished", timeout=5)
    assert webhook.timeout == 5
    job = Queue().enqueue(work.multiply, 1, webhooks=[webhook])
    settle(backend, claim(backend)[0], "finish")
    (made,) = callbacks(job)
    assert (made.timeout, made.args[-1]) == (15, 5)


def test_a_webhook_shows_neither_headers_nor_query(backend: Backend) -> None:
    webhook = Webhook("https://a.example/hook?key=secret", "finished", headers={"X": "secret"})
    job = Queue().enqueue(work.multiply, 1, webhooks=[webhook])
    settle(backend, claim(backend)[0], "finish")
    (made,) = callbacks(job)
    assert made.description == "webhook: GET https://a.example/hook when finished"
    assert "secret" not in repr(webhook) + repr(made) + repr(job)


def test_a_synchronous_queue_calls_back_before_enqueue_returns(backend: Backend) -> None:
    job = Queue(is_async=False).enqueue(work.multiply, 3, 4, on_success=hear)
    ((told, _, result),) = heard
    assert (told.id, result) == (job.id, 12)
    assert callbacks(job)[0].is_finished
    SimpleWorker("default").work()
    assert len(heard) == 1
