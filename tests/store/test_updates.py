"""What running jobs tell: written while their token holds them, and never after."""

import pytest
from redis import ResponseError

from rqd.model.progress import read_progress
from rqd.store.messages import JobUpdate
from tests.store.driving import Driver


def test_progress_is_the_attempts_own_and_later_attempts_begin_without_one(rqd: Driver) -> None:
    rqd.enqueue("a")
    first = rqd.claim_one()
    rqd.store.write_updates([JobUpdate("a", first.token, b"0.25 reading the 2nd file")])
    record = rqd.record("a")
    progress = read_progress(record.progress, record.fence)
    assert progress is not None
    assert str(progress) == "25% reading the 2nd file"
    assert rqd.views.progress(["a", "nobody"]) == {"a": progress}

    rqd.settle(first, "retry")
    assert rqd.record("a").progress  # of the latest attempt, until another begins
    rqd.claim_one()
    record = rqd.record("a")
    assert read_progress(record.progress, record.fence) is None
    assert rqd.views.progress(["a"]) == {}


def test_who_lost_the_job_tells_nothing_any_more(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    stale, ended = rqd.claim(2)
    rqd.settle(stale, "put_back")
    rqd.settle(ended)
    rqd.claim_one()
    before = rqd.dump()

    for claim in (stale, ended):
        rqd.store.write_updates(
            [JobUpdate(claim.id, claim.token, b"1 done", fields=(("meta", b"mine"),))]
        )
    rqd.store.write_updates([JobUpdate("nobody", "7:n", b"1 done", fields=(("meta", b"mine"),))])

    assert rqd.dump() == before


def test_meta_comes_with_its_signature_and_a_broken_job_holds_up_no_other(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    broken, good = rqd.claim(2)
    rqd.redis.delete(rqd.keys.job("a"))
    rqd.redis.set(rqd.keys.job("a"), "no hash")
    signed = (("meta", b"notes"), ("meta_signature", b"key:digest"))
    updates = [JobUpdate(one.id, one.token, fields=signed) for one in (broken, good)]

    rqd.store.write_updates(updates)
    rqd.store.write_updates(updates)

    record = rqd.record("b")
    assert (record.meta, record.meta_signature, record.progress) == (b"notes", "key:digest", "")


def test_arguments_that_are_none_are_refused(rqd: Driver) -> None:
    for args in (
        (),
        ("2", "a", "t", "", "", "", "0"),
        ("1", "a", "t", "", "", "", "1", "meta"),
        ("x",),
    ):
        with pytest.raises(ResponseError, match="none of this script's arguments"):
            rqd.store._run("write_updates", *args)


@pytest.mark.parametrize("text", ["", "7", "7 1", "7 1 x m", "7 1 inf m", "7 1 2 m", "7 z 1 m"])
def test_damaged_progress_is_none(text: str) -> None:
    assert read_progress(text, 7) is None
