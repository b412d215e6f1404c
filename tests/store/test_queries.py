"""Reading, and what holds of all keys together."""

import threading
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from rqd.store import scripts
from rqd.store.queue_queries import QueueCounts
from rqd.store.scripts import load_script
from rqd.store.wire import INLINE_LIMIT_BYTES
from tests.servers import RedisServer
from tests.store.driving import Driver, job, settlement
from tests.waiting import eventually

BIG = b"x" * (INLINE_LIMIT_BYTES + 1)


def live_a_little(rqd: Driver) -> None:
    """Brings keys of every kind into being."""
    rqd.store.hello("m", "b", 15, {"host": "h"})
    rqd.enqueue(*(job(f"j{number}", payload=BIG, retries=1) for number in range(9)))
    rqd.enqueue(job("h", queue="high"), job("later", delay_us=10**9))
    rqd.beat()
    rqd.store.command({"id": "1", "do": "nothing"}, ["m"])
    ends = ("finish", "fail", "retry", "put_back")
    claims = rqd.claim(5)
    ended = [settlement(claim, end, result=BIG) for claim, end in zip(claims, ends, strict=False)]
    rqd.turn(*ended, nudge=True)
    rqd.turn(free=9, queues=("other",), nudge=True)
    rqd.store.cancel("j7")
    rqd.store.delete("j8")
    refused = settlement(claims[0], result=BIG)
    rqd.turn(refused)
    rqd.beat(claims[4])


def test_counts_and_indexes_tell_where_the_jobs_are(rqd: Driver) -> None:
    live_a_little(rqd)

    high, low = rqd.views.queue_counts(rqd.views.queue_names())

    totals = ("finished", "failed", "stopped", "canceled", "retried", "repeated", "lost")
    none = dict.fromkeys(totals, 0) | {"put_back": 0}
    one = none | {"enqueued": 1}
    assert replace(high, latency_s=0) == QueueCounts("high", 1, 0, 0, 0, 0, 0, 0, 0, 0, one)
    assert replace(low, latency_s=0) == QueueCounts(
        "low",
        ready=4,
        limited=0,
        started=1,
        scheduled=1,
        deferred=0,
        finished=1,
        failed=1,
        canceled=1,
        latency_s=0,
        totals=none
        | dict.fromkeys(("finished", "failed", "canceled", "retried", "put_back"), 1)
        | {"enqueued": 10},
    )
    assert rqd.views.queued_count("low") == 4
    assert rqd.views.ready_ids("low") == ["j3", "j5", "j6", "j2"]
    assert rqd.views.ready_ids("low", 1, 2) == ["j5", "j6"]
    assert rqd.views.ready_ids("low", 0, 0) == []
    assert rqd.views.index_ids("low", "started") == ["j4"]
    assert rqd.views.index_ids("low", "canceled") == ["j7"]
    assert rqd.views.position("low", "j6") == 2
    assert rqd.views.position("low", "j4") is None
    assert rqd.views.queue_counts([]) == []


def test_the_latency_of_a_queue_is_for_how_long_its_next_job_could_have_been_claimed(
    rqd: Driver,
) -> None:
    rqd.enqueue("old", "new")
    hour = 3600 * 10**6
    rqd.redis.hset(rqd.keys.job("old"), "enqueued_at", rqd.views.now_us() - hour)

    assert 3600 <= rqd.views.latency_s("low") < 3660
    assert rqd.views.queue_counts(["none", "low"])[1].latency_s >= 3600

    (old,) = rqd.claim()
    assert 3600_000 <= old.waited_ms < 3660_000
    assert rqd.views.latency_s("low") < 60
    (new,) = rqd.claim()
    assert new.waited_ms < 60_000
    assert rqd.views.latency_s("low") == 0


def test_the_next_job_of_a_queue_is_not_one_whose_time_to_live_is_over(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "next", job("alone", queue="high"))
    for job_id in ("a", "b", "alone"):
        rqd.redis.delete(rqd.keys.job(job_id))  # as its time to live does
    rqd.redis.hset(rqd.keys.job("next"), "enqueued_at", rqd.views.now_us() - 3600 * 10**6)

    high, low = (one.latency_s for one in rqd.views.queue_counts(["high", "low"]))

    assert (high, low >= 3600) == (0, True)


@pytest.mark.parametrize("ending", ["put back", "lost"])
def test_a_job_that_comes_back_to_its_queue_has_waited_from_then_on(
    rqd: Driver, ending: str
) -> None:
    rqd.enqueue("a")
    rqd.redis.hset(rqd.keys.job("a"), "enqueued_at", rqd.views.now_us() - 3600 * 10**6)
    claim = rqd.claim_one()

    if ending == "put back":
        rqd.settle(claim, "put_back", cause="the grace is over")
    else:
        rqd.expire_leases("a")
        rqd.beat(master="other")

    assert rqd.ready() == ["a"]
    assert 0 < rqd.views.latency_s("low") < 60
    assert rqd.claim_one(master="other").waited_ms < 60_000


def test_a_job_that_is_put_back_before_it_began_has_waited_all_the_time(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.redis.hset(rqd.keys.job("a"), "enqueued_at", rqd.views.now_us() - 3600 * 10**6)

    rqd.settle(rqd.claim_one(), "put_back", began=0)

    assert rqd.views.latency_s("low") >= 3600
    assert rqd.claim_one().waited_ms >= 3600_000


def test_a_claim_that_is_told_again_says_how_long_its_job_had_waited_then(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.redis.hset(rqd.keys.job("a"), "enqueued_at", rqd.views.now_us() - 10**9)

    told = [rqd.turn(free=1, request="same").claims[0] for _ in range(2)]

    assert told[0] == told[1]
    assert told[0].waited_ms >= 10**6


@pytest.mark.parametrize("at", ["", "soon", "-1", "1e300", "9" * 5000, 2**53 - 1])
def test_a_job_whose_time_is_none_has_waited_for_no_time(rqd: Driver, at: str) -> None:
    rqd.enqueue("a")
    rqd.redis.hset(rqd.keys.job("a"), "enqueued_at", at)

    assert rqd.views.latency_s("low") == 0
    assert rqd.claim_one().waited_ms == 0


def test_counters_that_are_none_count_nothing(rqd: Driver) -> None:
    rqd.redis.set(rqd.keys.stats("low"), "x")
    rqd.redis.hset(rqd.keys.stats("high"), "finished", "many")

    assert {n for one in rqd.views.queue_counts(["low", "high"]) for n in one.totals.values()} == {
        0
    }


def test_expired_records_are_not_counted(rqd: Driver) -> None:
    rqd.redis.zadd(rqd.keys.index("low", "finished"), {"old": 1})

    assert rqd.views.queue_counts(["low"])[0].finished == 0
    assert rqd.views.index_ids("low", "finished") == []


def test_jobs_are_read_in_the_order_asked_for_with_none_for_what_is_gone(rqd: Driver) -> None:
    rqd.enqueue("a", "b")

    found = rqd.views.jobs(["b", "nobody", "a"])

    assert [record.id if record else None for record in found] == ["b", None, "a"]
    assert rqd.views.jobs([]) == []


def test_every_key_belongs_to_the_namespace(rqd: Driver) -> None:
    live_a_little(rqd)

    assert [name for name in rqd.names() if not name.startswith("{rqd}:")] == []


def test_every_key_of_an_ended_job_and_of_a_passage_expires(rqd: Driver) -> None:
    live_a_little(rqd)
    ended = ("j0", "j1", "j7", "j8")
    passing = (":staged:", ":turn:", ":worker:", ":master:", ":request")
    checked = 0
    for name in rqd.names():
        of_ended = any(name.split(":")[1:3] == ["job", job_id] for job_id in ended)
        if of_ended or (any(word in name for word in passing) and ":wake:" not in name):
            assert rqd.ttl_s(name) > 0, name
            checked += 1
    assert checked >= 12


def test_what_does_not_expire_is_reachable_from_an_index(rqd: Driver) -> None:
    live_a_little(rqd)
    fixed = {"queues", "nonempty", "counters", "leases", "scheduled", "masters"}
    names = [name.removeprefix("{rqd}:") for name in rqd.names() if rqd.ttl_s(name) == -1]
    queues, masters = rqd.views.queue_names(), ["m"]
    reachable = fixed | {f"control:{name}" for name in masters}
    reachable |= {f"wake:master:{name}" for name in masters}
    for queue in queues:
        reachable |= {f"queue:{queue}", f"wake:queue:{queue}", f"stats:{queue}"}
        for index in ("started", "scheduled", "finished", "failed", "canceled"):
            reachable |= {f"queue:{queue}:{index}", f"by-end:{index}:{queue}"}
        for job_id in [
            *rqd.ready(queue),
            *rqd.views.index_ids(queue, "started"),
            *rqd.views.index_ids(queue, "scheduled"),
        ]:
            reachable |= {f"job:{job_id}", f"job:{job_id}:payload", f"job:{job_id}:results"}

    assert set(names) - reachable == set()


def test_every_script_has_room_for_many_more_names(rqd: Driver) -> None:
    """Lua allows a function 200 local names; what declares more can't be loaded."""
    names = (path.stem for path in Path(scripts.__file__).parent.glob("lua/*.lua"))
    more = "local " + ", ".join(f"spare_{number}" for number in range(80))
    for name in names:
        rqd.redis.script_load(f"{more}\n{load_script(name, is_guarded=True).source}")


def test_two_namespaces_do_not_see_each_other(every_server: RedisServer) -> None:
    ours, theirs = Driver(every_server.url), Driver(every_server.url, "billing")
    live_a_little(ours)
    before = ours.dump()

    assert theirs.claim(5) == []
    assert theirs.views.queue_names() == []
    assert theirs.views.masters() == []
    live_a_little(theirs)
    theirs.store.empty("low")

    after = theirs.dump()
    assert {key: after[key] for key in before} == before
    assert all(key.startswith((b"{rqd}:", b"{billing}:")) for key in after)


# -- waiting for a job's end


def test_the_wait_for_a_jobs_end_is_over_when_it_is_settled(rqd: Driver) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()
    rqd.redis.config_resetstat()
    waiting = threading.Thread(target=rqd.views.wait_for_end, args=("a", 30))
    waiting.start()
    eventually(lambda: blocked_clients(rqd) == 1, message="the wait blocks in the server")

    settled_at = monotonic()
    Driver(rqd.url).settle(claim)
    waiting.join(5)

    assert not waiting.is_alive()
    assert monotonic() - settled_at < 1
    assert looks(rqd) == 2


def test_the_wait_goes_on_over_retries(rqd: Driver) -> None:
    rqd.enqueue(job("a", retries=1))
    rqd.redis.config_resetstat()
    waiting = threading.Thread(target=rqd.views.wait_for_end, args=("a", 30))
    waiting.start()
    eventually(lambda: blocked_clients(rqd) == 1)
    other = Driver(rqd.url)
    other.settle(other.claim_one(), "retry")
    eventually(lambda: looks(rqd) == 2 and blocked_clients(rqd) == 1)
    assert waiting.is_alive()

    other.settle(other.claim_one(), "fail")
    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.parametrize("end", ["finish", "fail", "cancel", "delete", "never there"])
def test_there_is_no_wait_for_what_has_ended_or_is_gone(rqd: Driver, end: str) -> None:
    if end != "never there":
        rqd.enqueue("a")
    if end in ("finish", "fail"):
        rqd.settle(rqd.claim_one(), end)
    elif end == "cancel":
        rqd.store.cancel("a")
    elif end == "delete":
        rqd.store.delete("a")
    started = monotonic()

    rqd.views.wait_for_end("a", 30)

    assert monotonic() - started < 1


def test_the_wait_for_a_job_that_is_canceled_ends_soon(
    rqd: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqd.views, "_block_slice_s", 0.05)
    rqd.enqueue("a")
    waiting = threading.Thread(target=rqd.views.wait_for_end, args=("a", 30))
    waiting.start()
    eventually(lambda: blocked_clients(rqd) == 1)

    Driver(rqd.url).store.cancel("a")
    waiting.join(5)

    assert not waiting.is_alive()


def test_a_requeued_job_is_waited_for_anew(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.settle(rqd.claim_one(), "fail")
    rqd.store.requeue("a")
    started = monotonic()

    rqd.views.wait_for_end("a", 0.05)

    assert monotonic() - started >= 0.05


def looks(rqd: Driver) -> int:
    """How often waiters have looked at their jobs: they would do so often if they polled."""
    stats = Driver(rqd.url).redis.info("commandstats")
    return int(stats.get("cmdstat_exec", {"calls": 0})["calls"])


def blocked_clients(rqd: Driver) -> int:
    return int(Driver(rqd.url).redis.info("clients")["blocked_clients"])
