"""What the scripts know of signatures: they carry them, and park what can't be judged yet."""

from typing import Any

import pytest

from rqd.model.records import Envelope, JobRecord, NewJob
from tests.store.driving import Driver, ids, job

ODD: dict[str, Any] = {
    "timeout_s": 1234567.25,
    "result_ttl_s": -1,
    "failure_ttl_s": 86400.0,
    "ttl_s": 0.1 + 0.2,
    "retries": 3,
    "retry_intervals": (0.1, 1e9),
    "priority": -7,
    "serializer": "json",
    "meta": b"meta",
    "terms": '{"limits":["a"]}',
}


def envelope_of(new: NewJob) -> Envelope:
    return Envelope(new.signature, new.signed_facts())


@pytest.mark.parametrize("fields", [{}, ODD], ids=["defaults", "odd"])
def test_what_was_signed_comes_back_to_the_byte(rqd: Driver, fields: dict[str, Any]) -> None:
    new = job("a", signature="0123abcd:ffff", meta_signature="m", **fields)
    rqd.enqueue(new)

    record, claim = rqd.record("a"), rqd.claim_one()

    assert claim.envelope == record.envelope == envelope_of(new)
    assert JobRecord.fresh(new, record.status, 1, None).envelope == record.envelope
    assert (record.meta_signature, record.meta) == ("m", fields.get("meta", b""))


def test_an_unsigned_job_has_no_field_more(rqd: Driver) -> None:
    rqd.enqueue(job("a"))

    fields = rqd.redis.hgetall(rqd.keys.job("a"))
    claim = rqd.claim_one()

    assert not {name for name in fields if b"signature" in name}
    assert claim.envelope is None
    assert rqd.record("a").envelope is None


def test_a_tally_leaves_the_envelope_as_it_was(rqd: Driver) -> None:
    new = job("a", signature="0123abcd:ffff", retries=3)
    rqd.enqueue(new)
    for counted in ("timeout", "asked"):
        rqd.settle(rqd.claim_one(), "retry", run_again_for=counted)

    claim = rqd.claim_one()

    assert claim.envelope == rqd.record("a").envelope == envelope_of(new)
    assert claim.tally == {"timeout": 1, "asked": 1}


def test_a_replayed_turn_brings_the_envelope_again(rqd: Driver) -> None:
    new = job("a", signature="0123abcd:ffff")
    rqd.enqueue(new)

    first = rqd.claim_one(request="r")
    again = rqd.claim_one(request="r")

    assert first == again
    assert again.envelope == envelope_of(new)


def test_retries_put_backs_and_requeues_leave_the_facts_as_they_were(rqd: Driver) -> None:
    new = job("a", signature="0123abcd:ffff", retries=2, ttl_s=60)
    rqd.enqueue(new)
    endings: list[tuple[str, dict[str, Any]]] = [
        ("put_back", {}),
        ("retry", {"cause": "x"}),
        ("park", {"cause": "x"}),
        ("retry", {"cause": "x"}),
        ("fail", {"cause": "x"}),
    ]
    for decision, fields in endings:
        claim = rqd.claim_one()
        assert claim.envelope == envelope_of(new), decision
        rqd.settle(claim, decision, **fields)
    rqd.store.requeue("a")

    assert rqd.claim_one().envelope == envelope_of(new)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("func_name", "tasks.g"),
        ("serializer", "json"),
        ("timeout", "180.0"),
        ("result_ttl", "-1"),
        ("failure_ttl", "1"),
        ("ttl", "5"),
        ("retries_left", "1"),
        ("retries_used", "1"),
        ("retry_intervals", "9"),
        ("priority", "1"),
        ("terms", "{}"),
    ],
)
def test_whoever_changes_a_field_changes_the_facts(rqd: Driver, field: str, value: str) -> None:
    new = job("a", signature="0123abcd:ffff")
    rqd.enqueue(new)
    rqd.redis.hset(rqd.keys.job("a"), field, value)

    record = rqd.record("a")

    assert record.envelope != envelope_of(new)
    assert rqd.claim_one().envelope == record.envelope


def test_moved_counters_of_retries_are_not_taken_for_the_granted_ones(rqd: Driver) -> None:
    new = job("a", signature="0123abcd:ffff", retries=1)
    rqd.enqueue(new)
    rqd.redis.hset(rqd.keys.job("a"), mapping={"retries_left": "100", "retries_used": "-99"})

    assert rqd.record("a").envelope != envelope_of(new)
    assert rqd.claim() == []
    assert rqd.record("a").cause.startswith("damaged: ")


def test_a_parked_job_waits_uncharged_with_its_cause(rqd: Driver) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()

    verdict = rqd.settle(claim, "park", delay_us=30_000_000, cause="parked: no key")

    record = rqd.record("a")
    assert verdict == "settled"
    assert (record.status, record.attempt, record.cause) == ("scheduled", 0, "parked: no key")
    assert record.due_us is not None
    assert 29_000_000 < record.due_us - rqd.views.now_us() <= 30_000_000
    assert rqd.views.index_ids("low", "scheduled") == ["a"]
    assert rqd.views.index_ids("low", "started") == []
    assert rqd.views.attempts("a") == []
    assert rqd.settle(claim, "park", delay_us=30_000_000, cause="parked: no key") == "already"
    worker = rqd.redis.hgetall(rqd.keys.worker("m", 1))
    assert b"failed" not in worker


def test_a_payload_that_is_too_large_for_a_hash_fails_its_job_alone(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    rqd.redis.hset(rqd.keys.job("a"), "payload", b"x" * 65_537)

    assert ids(rqd.claim(2)) == ["b"]

    record = rqd.record("a")
    assert record.status == "failed"
    assert record.cause == "refused: its payload lies in its hash, where 65537 bytes are too many"
