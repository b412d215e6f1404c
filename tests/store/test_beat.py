"""hello, beat, bye and command: who lives, what runs, and what becomes of a dead master's jobs."""

import math

import pytest

from rqd.store.keys import ALL_QUEUES
from rqd.store.messages import Beat, Owner
from tests.store.driving import LEASE_US, Driver, ids, job
from tests.waiting import eventually


def test_a_beat_renews_the_leases_of_running_jobs(rqd: Driver) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()
    rqd.redis.zadd(rqd.keys.leases, {"a": 1})

    answer = rqd.beat(claim)

    assert (answer.lost, answer.reaped) == ((), ())
    assert rqd.redis.zscore(rqd.keys.leases, "a") == answer.now_us + LEASE_US


def test_a_beat_tells_which_leases_are_lost_and_does_not_renew_them(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c", "d")
    a, b, c, d = rqd.claim(4)
    rqd.store.delete("a")
    rqd.store.delete("b")
    rqd.enqueue("b")
    rqd.claim_one(master="other")
    rqd.settle(c)

    answer = rqd.beat(a, b, c, d)

    assert answer.lost == (a.token, b.token, c.token)
    assert {name for name, _ in rqd.redis.zrange(rqd.keys.leases, 0, -1, withscores=True)} == {
        b"b",
        b"d",
    }


def test_a_beat_tells_by_which_worker_a_moved_job_is_run(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    a, b = rqd.claim(2)
    rqd.store.delete("b")

    rqd.beat(a, b, moved=7)

    assert rqd.record("a").worker == "m:7"
    assert not rqd.redis.exists(rqd.keys.job("b"))
    rqd.beat(a)
    assert rqd.record("a").worker == "m:7"


def test_a_beat_writes_the_rows_and_when_they_expire(rqd: Driver) -> None:
    answer = rqd.beat(workers=2, row_ttl_s=15)

    (master,) = rqd.views.masters()
    assert master["name"] == "m"
    assert master["heartbeat"] == str(answer.now_us)
    assert [row["number"] for row in rqd.views.workers([master])] == ["1", "2"]
    for key in (rqd.keys.master("m"), rqd.keys.worker("m", 1), rqd.keys.worker("m", 2)):
        assert rqd.ttl_s(key) == rqd.left_of(15)


def test_a_workers_row_that_had_expired_says_again_since_when_its_job_runs(rqd: Driver) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()
    rqd.redis.delete(rqd.keys.worker("m", 1))

    rows: dict[int, dict[str, str | int | float]] = {
        1: {"state": "busy", "job": "a"},
        2: {"state": "idle", "job": ""},
    }
    row: dict[str, str | int | float] = {"boot": "b", "workers": 2}
    rqd.store.beat(Beat("m", "b", LEASE_US, 15, "", ((claim.id, claim.token, ""),), row, rows))

    since = [worker.get("since") for worker in rqd.views.workers(rqd.views.masters())]
    assert since == [str(rqd.record("a").started_us), None]


# -- lost masters


def test_a_silent_masters_jobs_go_back_uncharged_to_their_place(rqd: Driver) -> None:
    rqd.enqueue("a", "b", "c")
    rqd.claim(2, master="dead")
    rqd.take_marker()
    rqd.expire_leases("a", "b")

    answer = rqd.beat(master="alive")

    assert answer.reaped == (("a", 1, "lost with dead:1"), ("b", 1, "lost with dead:2"))
    assert rqd.ready() == ["a", "b", "c"]
    record = rqd.record("a")
    assert (record.status, record.attempt, record.losses) == ("queued", 0, 1)
    assert rqd.views.index_ids("low", "started") == []
    assert not rqd.redis.exists(rqd.keys.leases)
    assert rqd.has_marker()


def test_a_job_lost_three_times_in_a_row_fails_as_abandoned_and_expires(rqd: Driver) -> None:
    rqd.enqueue(job("poison", failure_ttl_s=100), "b")
    answers = []
    for _ in range(3):
        rqd.claim_one(master="dead")
        rqd.expire_leases("poison")
        answers.append(rqd.beat(master="alive"))

    assert answers[-1].reaped == (("poison", 3, "lost with dead:1"),)
    record = rqd.record("poison")
    assert record.status == "failed"
    assert record.cause == "abandoned: lost with dead:1, loss 3 in a row"
    assert rqd.ready() == ["b"]
    assert rqd.views.attempts("poison")[0].type == "failed"
    assert rqd.ttl_s(rqd.keys.job("poison")) == rqd.left_of(100)
    assert rqd.views.index_ids("low", "failed") == ["poison"]


def test_a_running_job_whose_hash_was_deleted_by_hand_leaves_no_trace(rqd: Driver) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()
    rqd.redis.delete(rqd.keys.job("a"))

    assert rqd.settle(claim) == "gone"
    rqd.redis.zadd(rqd.keys.leases, {"a": 1})

    assert rqd.beat(master="other").reaped == ()
    assert rqd.redis.zrange(rqd.keys.leases, 0, -1) == []
    assert rqd.redis.zrange(rqd.keys.index("low", "started"), 0, -1) == []


def test_losses_count_in_a_row_only(rqd: Driver) -> None:
    rqd.enqueue(job("a", retries=9))
    for _ in range(3):
        for _ in range(2):
            rqd.claim_one()
            rqd.expire_leases("a")
            rqd.beat()
        rqd.settle(rqd.claim_one(), "retry")

    assert rqd.record("a").losses == 0
    assert rqd.status("a") == "queued"


def test_nobody_is_reaped_before_the_lease_is_over(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.claim_one(master="dead")

    assert rqd.beat(master="alive").reaped == ()
    assert rqd.status("a") == "started"


@pytest.mark.parametrize("stood_still", [True, False], ids=["stood still", "clock went back"])
def test_nobody_is_reaped_for_a_lease_after_the_server(rqd: Driver, stood_still: bool) -> None:
    rqd.enqueue("a")
    rqd.claim_one(master="slow")
    rqd.expire_leases("a")
    now_us = rqd.views.now_us()
    rqd.counters(seen=now_us - LEASE_US if stood_still else now_us + LEASE_US)

    first = rqd.beat(master="alive")
    assert first.reaped == rqd.beat(master="alive").reaped == ()
    reap_after_us = int(rqd.redis.hget("{rqd}:counters", "reap_after"))
    assert reap_after_us == first.now_us + LEASE_US

    rqd.counters(reap_after=first.now_us, seen=rqd.views.now_us())
    assert ids_of_reaped(rqd) == ["a"]


def test_short_pauses_between_beats_are_no_standstill(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.claim_one(master="dead")
    rqd.expire_leases("a")
    rqd.counters(seen=rqd.views.now_us() - LEASE_US // 3)

    assert ids_of_reaped(rqd) == ["a"]


def test_a_lease_from_before_the_clock_went_back_ends_a_lease_from_now(rqd: Driver) -> None:
    rqd.enqueue("a")
    rqd.claim_one(master="dead")
    rqd.redis.zadd(rqd.keys.leases, {"a": rqd.views.now_us() + 3_600_000_000})

    answer = rqd.beat(master="alive")

    assert rqd.redis.zscore(rqd.keys.leases, "a") == answer.now_us + LEASE_US


def test_at_most_a_hundred_are_reaped_at_a_beat(rqd: Driver) -> None:
    names = [f"j{number}" for number in range(120)]
    rqd.enqueue(*names)
    rqd.claim(120, master="dead")
    rqd.expire_leases(*names)

    assert len(rqd.beat().reaped) == 100
    assert len(rqd.beat().reaped) == 20
    assert len(rqd.ready()) == 120


def test_the_rows_of_a_dead_master_vanish_by_themselves(rqd: Driver) -> None:
    rqd.store.hello("dead", "b", 1, {"workers": 1})
    rqd.beat(master="dead", row_ttl_s=1)
    rqd.store.command({"id": "1", "do": "stop"}, ["dead"])
    rqd.redis.zadd(rqd.keys.masters, {"dead": rqd.views.now_us() - 60_000_000})

    eventually(lambda: rqd.views.masters() == [], 3)
    rqd.beat(master="alive")

    assert [row["name"] for row in rqd.views.masters()] == ["alive"]
    assert not [name for name in rqd.names() if "dead" in name]


def test_a_master_that_died_before_the_clock_went_back_is_not_seen_until_it_has_caught_up(
    rqd: Driver,
) -> None:
    an_hour_ms = 3_600_000
    rqd.store.hello("dead", "b", 15, {"workers": 1})
    rqd.redis.zadd(rqd.keys.masters, {"dead": rqd.views.now_us() + an_hour_ms * 1000})
    rqd.redis.pexpire(rqd.keys.master("dead"), an_hour_ms)

    answer = rqd.beat(master="alive", row_ttl_s=1)

    assert rqd.redis.zscore(rqd.keys.masters, "dead") == answer.now_us
    eventually(lambda: rqd.views.masters() == [], 3)
    assert rqd.store.hello("dead", "another", 15, {}).owner is None


def test_its_name_is_free_after_that_time_too_where_no_other_master_lives(rqd: Driver) -> None:
    an_hour_ms = 3_600_000
    rqd.store.hello("dead", "b", 15, {"workers": 1})
    rqd.redis.zadd(rqd.keys.masters, {"dead": rqd.views.now_us() + an_hour_ms * 1000})
    rqd.redis.pexpire(rqd.keys.master("dead"), an_hour_ms)

    def is_had() -> bool:
        return rqd.store.hello("dead", "another", 1, {}).owner is None

    assert not is_had()  # it may live, until it is silent
    eventually(is_had, 3)


def test_after_a_leap_of_the_clock_the_commands_of_a_master_that_may_live_stay(
    rqd: Driver,
) -> None:
    an_hour_us = 3_600_000_000
    rqd.beat(master="alive")
    rqd.store.hello("late", "b", 15, {"workers": 1})
    rqd.store.command({"id": "1", "do": "pause"}, ["late"])
    before_us = rqd.views.now_us() - an_hour_us
    rqd.redis.zadd(rqd.keys.masters, {"late": before_us})
    rqd.counters(seen=before_us)

    rqd.beat(master="alive")

    assert [one["do"] for one in rqd.beat(master="late", boot="b").commands] == ["pause"]


def test_a_beat_tells_a_master_of_a_stop_whose_command_was_lost(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    first, second = rqd.claim(2, master="m")
    assert rqd.store.stop("a", "r1", "who has to", 1.5) == "started"  # the master has no row

    answer = rqd.beat(first, second)

    assert answer.commands == ()
    (told,) = answer.stops
    assert told == {"token": first.token, "by": "who has to", "grace_s": 1.5}
    rqd.redis.hset(rqd.keys.job("a"), "stop", f"{first.token} r soon somebody")
    assert math.isnan(rqd.beat(first, second).stops[0]["grace_s"])
    rqd.settle(first, "put_back")
    assert rqd.beat().stops == ()


def test_a_beat_clears_the_indexes_of_queues_where_nothing_ends_any_more(rqd: Driver) -> None:
    rqd.enqueue("a")
    for index in ("finished", "failed", "canceled"):
        rqd.redis.zadd(rqd.keys.index("low", index), {"old": 1})

    rqd.beat()

    assert not [name for name in rqd.names() if name.endswith(("finished", "failed", "canceled"))]


# -- names and commands


def test_the_name_of_a_live_master_is_refused_to_another(rqd: Driver) -> None:
    assert rqd.store.hello("m", "boot1", 15, {"host": "h", "pid": 7}).owner is None
    before = rqd.dump()

    owner = Owner("h", "7", "boot1", "")
    assert rqd.store.hello("m", "boot2", 15, {"host": "i", "pid": 8}).owner == owner

    assert rqd.dump() == before


def test_a_hello_sent_twice_is_no_other_master(rqd: Driver) -> None:
    for _ in range(2):
        assert rqd.store.hello("m", "boot1", 15, {"host": "h", "pid": 7}).owner is None


def test_bye_takes_the_rows_and_frees_the_name(rqd: Driver) -> None:
    rqd.store.hello("m", "boot1", 15, {"host": "h"})
    rqd.enqueue("a")
    rqd.settle(rqd.claim_one())
    rqd.store.bye("m", "another", 1)
    assert [row["name"] for row in rqd.views.masters()] == ["m"]

    rqd.store.bye("m", "boot1", 1)
    rqd.store.bye("m", "boot1", 1)

    assert not [name for name in rqd.names() if ":m" in name and ":masters" not in name]
    assert rqd.views.masters() == []
    assert rqd.store.hello("m", "boot2", 15, {}).owner is None


@pytest.fixture
def dead(rqd: Driver) -> Driver:
    """A master `m` with two workers, dead since it claimed `a` and `b`."""
    rqd.store.hello("m", "boot1", 15, {"host": "h", "pid": 7, "workers": 2, "place": "here"})
    rqd.enqueue("a", "b", "c")
    rqd.claim(2)
    return rqd


def test_a_successor_takes_back_the_jobs_of_the_master_it_knows_to_be_dead(dead: Driver) -> None:
    told = dead.store.hello("m", "boot2", 15, {"workers": 2}).owner
    assert told == Owner("h", "7", "boot1", "here")
    assert dead.ready() == ["c"]

    greeting = dead.store.hello("m", "boot2", 15, {"workers": 2}, predecessor="boot1")

    assert greeting.owner is None
    assert greeting.reaped == (("a", 1, "lost with m:1"), ("b", 1, "lost with m:2"))
    assert dead.ready() == ["a", "b", "c"]
    assert dead.redis.zcard(dead.keys.leases) == 0
    assert [dead.record(one).attempt for one in "ab"] == [0, 0]


def test_a_successor_takes_back_what_the_dead_one_held_behind_other_jobs(dead: Driver) -> None:
    dead.enqueue("d", "e")
    dead.turn(ahead=[1, 2], busy=[1, 2])
    (other,) = dead.claim(1, master="m:1")

    greeting = dead.store.hello("m", "boot2", 15, {"workers": 2}, predecessor="boot1")

    lost = [(job_id, losses, told) for job_id, losses, told in greeting.reaped]
    assert sorted(lost) == [
        (one, 1, f"lost with m:{n}") for one, n in zip("abcd", "1212", strict=True)
    ]
    assert dead.ready() == ["a", "b", "c", "d"]
    assert (other.id, dead.settle(other)) == ("e", "settled")


def test_a_take_over_sent_twice_counts_one_loss(dead: Driver) -> None:
    for _ in range(2):
        assert dead.store.hello("m", "boot2", 15, {}, predecessor="boot1").owner is None

    assert dead.record("a").losses == 1


def test_a_take_over_leaves_a_job_that_another_master_has_by_now(dead: Driver) -> None:
    dead.expire_leases("a")
    dead.counters(seen=dead.views.now_us(), reap_after=0)
    dead.beat(master="other")
    (again,) = dead.claim(1, master="other")

    greeting = dead.store.hello("m", "boot2", 15, {}, predecessor="boot1")

    assert [job_id for job_id, _, _ in greeting.reaped] == ["b"]
    assert dead.settle(again) == "settled"


def test_a_dead_master_whose_row_has_expired_is_known_by_its_boot_id_in_its_claims(
    rqd: Driver,
) -> None:
    rqd.enqueue("a", "b", "c", "d")
    (a,) = rqd.claim(1, request="boot1.one")
    (b,) = rqd.claim(1, request="boot0.one")  # of one elsewhere that had this name before or since
    (c,) = rqd.claim(1, master="n", request="boot1.one")
    (d,) = rqd.claim(1, request="boot11.one")

    for _ in range(2):
        greeting = rqd.store.hello("m", "boot2", 15, {}, predecessor="boot1")
        assert greeting.owner is None
        assert rqd.record("a").losses == 1

    assert rqd.ready() == ["a"]
    assert rqd.settle(a) == "stale"
    assert [rqd.settle(one) for one in (b, c, d)] == ["settled"] * 3


def test_a_name_that_another_has_by_now_is_not_taken_for_a_dead_one_that_had_it(
    dead: Driver,
) -> None:
    dead.store.hello("m", "boot2", 15, {"host": "i", "pid": 8}, predecessor="boot1")
    dead.enqueue("e")
    (held,) = dead.claim_for((3,), "low", request="boot1.late")

    greeting = dead.store.hello("m", "boot3", 15, {}, predecessor="boot1")

    assert greeting.owner == Owner("i", "8", "boot2", "")
    assert greeting.reaped == ()
    assert dead.settle(held) == "settled"


def test_a_take_over_gives_up_the_job_that_has_killed_three_masters(rqd: Driver) -> None:
    rqd.enqueue("poison")
    for boot in range(4):
        rqd.store.hello("m", f"boot{boot}", 15, {"workers": 1}, predecessor=f"boot{boot - 1}")
        rqd.claim(1)

    assert rqd.status("poison") == "failed"
    assert rqd.record("poison").cause == "abandoned: lost with m:1, loss 3 in a row"


def test_a_dead_master_that_has_a_successor_is_not_taken_over_again(dead: Driver) -> None:
    dead.store.hello("m", "boot2", 15, {"host": "i", "pid": 8}, predecessor="boot1")

    told = dead.store.hello("m", "boot3", 15, {}, predecessor="boot1").owner

    assert told == Owner("i", "8", "boot2", "")


def test_a_command_is_delivered_until_it_is_obeyed(rqd: Driver) -> None:
    rqd.beat()

    assert rqd.store.command({"id": "1", "do": "stop"}, ["m", "nobody"]) == ["m"]
    assert rqd.store.command({"id": "2", "do": "more"}, ["m"]) == ["m"]

    assert rqd.redis.zrange(rqd.keys.wake_master("m"), 0, -1) == [b"command"]
    for _ in range(2):
        assert [command["id"] for command in rqd.beat().commands] == ["1", "2"]
    assert [command["id"] for command in rqd.beat(obeyed="1").commands] == ["2"]
    assert rqd.beat(obeyed="2").commands == ()
    assert not [name for name in rqd.names() if "nobody" in name]


def test_a_master_that_takes_a_name_does_not_obey_what_its_predecessor_was_told(
    rqd: Driver,
) -> None:
    rqd.beat()
    rqd.store.command({"id": "1", "do": "stop"}, ["m"])
    rqd.redis.delete(rqd.keys.master("m"))

    rqd.store.hello("m", "boot2", 15, {})

    assert rqd.beat().commands == ()


@pytest.mark.parametrize("key", ["leases", "masters", "master:m", "counters"])
def test_a_key_that_is_not_rqds_refuses_a_beat_before_its_first_write(
    rqd: Driver, key: str
) -> None:
    rqd.enqueue("a")
    claim = rqd.claim_one()
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")
    before = rqd.dump()

    with pytest.raises(Exception, match=rf"WRONGTYPE \{{rqd\}}:{key} holds"):
        rqd.beat(claim)

    assert rqd.dump() == before


def test_what_was_deleted_of_the_shared_sets_is_found_again(rqd: Driver) -> None:
    rqd.enqueue("running", "ready", job("later", delay_us=10**9))
    claim = rqd.claim_one()
    due = rqd.redis.zscore(rqd.keys.scheduled, "later")
    rqd.redis.delete(rqd.keys.leases, rqd.keys.scheduled, "{rqd}:nonempty")
    assert rqd.claim() == []

    rqd.beat(master="another")

    assert rqd.redis.zscore(rqd.keys.scheduled, "later") == due
    assert rqd.redis.zscore(rqd.keys.leases, "running") > rqd.views.now_us()
    assert ids(rqd.claim()) == ["ready"]
    assert rqd.settle(claim) == "settled"


@pytest.mark.parametrize("what", ["low", ALL_QUEUES])
def test_a_pause_for_a_time_ends_though_its_end_was_deleted(rqd: Driver, what: str) -> None:
    rqd.enqueue("a")
    ends_at = rqd.store.pause(what, 3600)
    rqd.store.pause("other")
    rqd.redis.delete(rqd.keys.scheduled)

    rqd.beat()

    assert rqd.turn(free=1).next_due_us == ends_at
    rqd.redis.zadd(rqd.keys.scheduled, {f":resume:{what}": 1})
    assert ids(rqd.claim()) == ["a"]
    assert rqd.views.paused() == {"other": None}


def test_an_index_loses_what_is_no_job_any_more(rqd: Driver) -> None:
    rqd.enqueue("running", job("later", delay_us=10**9))
    rqd.claim_one()
    rqd.redis.delete(rqd.keys.job("running"), rqd.keys.job("later"), rqd.keys.scheduled)
    rqd.expire_leases("running")

    rqd.beat(master="another")
    rqd.beat(master="another")

    assert rqd.views.index_ids("low", "started") == []
    assert rqd.views.index_ids("low", "scheduled") == []


@pytest.mark.parametrize("key", ["control:m", "worker:m:1"])
def test_what_stands_in_the_place_of_a_masters_own_keys_makes_room(rqd: Driver, key: str) -> None:
    rqd.beat()
    rqd.redis.delete(f"{{rqd}}:{key}")
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")

    rqd.beat()
    rqd.store.command({"id": "1", "do": "stop"}, ["m"])

    assert [command["id"] for command in rqd.beat().commands] == ["1"]
    assert rqd.redis.hget("{rqd}:worker:m:1", "state") == b"idle"


def test_a_beat_goes_on_when_a_running_jobs_key_became_something_else(rqd: Driver) -> None:
    rqd.enqueue("a", "b")
    a, b = rqd.claim(2)
    rqd.redis.delete(rqd.keys.job("a"))
    rqd.redis.set(rqd.keys.job("a"), "not ours")

    assert rqd.beat(a, b).lost == (a.token,)


def ids_of_reaped(rqd: Driver) -> list[str]:
    return [job_id for job_id, _, _ in rqd.beat(master="alive").reaped]


def test_a_master_whose_name_was_given_away_is_told_so_and_changes_nothing(rqd: Driver) -> None:
    rqd.store.hello("m", "boot2", 15, {"host": "h"})
    before = rqd.dump()
    answer = rqd.beat(boot="boot1")
    assert answer.is_replaced
    assert rqd.dump() == before
    assert not rqd.beat(boot="boot2").is_replaced


def test_a_master_is_told_which_beat_of_it_redis_knew_last(rqd: Driver) -> None:
    assert rqd.beat().last_us is None
    first = rqd.beat()
    older = rqd.redis.dump("{rqd}:masters")
    second = rqd.beat()
    assert second.last_us == first.now_us

    rqd.redis.restore("{rqd}:masters", 0, older, replace=True)  # as from a copy of that time
    rqd.redis.delete("{rqd}:master:m")  # and its row's time was over
    assert rqd.beat().last_us == first.now_us
    rqd.redis.flushdb()
    assert rqd.beat().last_us is None
