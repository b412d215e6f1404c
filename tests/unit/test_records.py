"""A job's hash becomes a record."""

import pytest

from rqd.model.records import AttemptRecord, Claim, JobRecord, JobStatus, parse_intervals

HASH = {
    b"status": b"started",
    b"func_name": b"tasks.f",
    b"origin": b"low",
    b"payload": b"\x80call",
    b"timeout": b"7.5",
    b"result_ttl": b"-1",
    b"failure_ttl": b"60",
    b"created_at": b"1700000000000001",
    b"enqueued_at": b"",
    b"attempt": b"2",
    b"lease": b"99:boot.1",
    b"settled": b"98:boot.1",
    b"retry_intervals": b"1,2.5",
    b"meta": b"\xff",
    b"cause": b"caf\xe9",
}


def test_a_record_has_the_fields_of_its_hash() -> None:
    record = JobRecord.parse("a", HASH)

    assert (record.id, record.status, record.func_name) == ("a", JobStatus.STARTED, "tasks.f")
    assert (record.timeout_s, record.result_ttl_s, record.failure_ttl_s) == (7.5, -1, 60)
    assert (record.payload, record.meta) == (b"\x80call", b"\xff")
    assert record.created_us == 1_700_000_000_000_001
    not_yet = (record.enqueued_us, record.started_us, record.due_us, record.ttl_s)
    assert all(instant is None for instant in not_yet)
    assert (record.attempt, record.losses, record.retries_left) == (2, 0, 0)
    assert list(record.retry_intervals) == [1, 2.5]
    assert record.fence == 99
    assert record.cause == "caf�"


def test_the_fence_is_the_last_claims() -> None:
    settled = {name: value for name, value in HASH.items() if name != b"lease"}

    assert JobRecord.parse("a", settled).fence == 98
    assert JobRecord.parse("a", {b"status": b"queued"}).fence == 0


@pytest.mark.parametrize("text", ["", "x", "1,,2", "1;2"])
def test_intervals_that_cannot_be_read_are_none(text: str) -> None:
    assert parse_intervals(text) == ()


def test_terminal_states_are_those_nothing_happens_to() -> None:
    terminal = {status for status in JobStatus if status.is_terminal}

    assert terminal == {"finished", "failed", "stopped", "canceled"}


def test_a_claim_knows_its_fence() -> None:
    claim = Claim("a", "17:boot.1", 1, "low", 1, "f", b"", "pickle", 1, 0, 0, ())

    assert claim.fence == 17


def test_a_field_that_is_not_there_is_empty_text() -> None:
    attempt = AttemptRecord("failed", 1, 0, {"cause": b"caf\xe9"})

    assert attempt.text("cause") == "caf�"
    assert attempt.text("output") == ""
