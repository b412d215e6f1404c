"""Cron entries in Redis: who ticks, how often, and what becomes of an entry that is changed."""

from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from rqd.model.cron import CronEntry, run_id
from rqd.model.records import NewJob, Template
from rqd.model.schedule import Plan, Schedule
from rqd.store.crons import Crons, DueEntry, Ticked
from tests.servers import RedisServer
from tests.store.driving import Driver
from tests.waiting import eventually

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


def an_entry(name: str = "nightly", cron: str = "* * * * *", **fields: Any) -> CronEntry:
    schedule = Schedule(cron, **fields.pop("schedule", {}))
    source = fields.pop("source", "")
    own = {key: fields.pop(key) for key in ("payload", "meta", "signature") if key in fields}
    new = NewJob(
        f"cron:{name}", Template("low", **fields), "tasks.f", own.pop("payload", b"call"), **own
    )
    return CronEntry(name, schedule, new, source)


@pytest.fixture
def crons(rqd: Driver) -> Crons:
    return Crons(rqd.store)


def make_due(rqd: Driver, name: str = "nightly", late_us: int = 1_000_000) -> int:
    """As if the entry's next run had been due so long ago; returns when."""
    due_us = (rqd.views.now_us() - late_us) // MINUTE_US * MINUTE_US
    assert rqd.redis.zscore(rqd.keys.crons, name) is not None
    rqd.redis.zadd(rqd.keys.crons, {name: due_us})
    return due_us


def plan(entry: DueEntry, now_us: int) -> tuple[list[tuple[str, int]], int | None]:
    plan: Plan = Schedule.parse(entry.schedule).plan(entry.due_us, now_us)
    return [(run_id(entry.name, at_us), at_us) for at_us in plan.runs_us], plan.next_us


def tick(crons: Crons) -> list[Ticked]:
    """What a master does when something is due."""
    due = crons.due()
    return [crons.tick(entry, *plan(entry, due.now_us)) for entry in due.entries]


def jobs_of(rqd: Driver) -> list[str]:
    return sorted(rqd.ready())


def test_a_tick_makes_the_run_and_says_when_the_next_one_is_due(rqd: Driver, crons: Crons) -> None:
    entry = an_entry(
        timeout_s=7,
        result_ttl_s=9,
        retries=2,
        priority=5,
        meta=b"notes",
        terms='{"cron":"nightly"}',
    )
    assert crons.save(entry)
    due_us = make_due(rqd)

    (ticked,) = tick(crons)

    # A minute may have begun since it was due.
    latest_us = due_us + MINUTE_US * ((ticked.now_us - due_us) // MINUTE_US)
    id_ = run_id("nightly", latest_us)
    assert (ticked.is_stale, ticked.made) == (False, 1)
    assert ticked.next_us == latest_us + MINUTE_US
    assert jobs_of(rqd) == [id_]
    assert rqd.has_marker()
    claim = rqd.claim_one()
    assert (claim.id, claim.func_name, claim.payload, claim.timeout_s) == (
        id_,
        "tasks.f",
        b"call",
        7,
    )
    assert (claim.retries_left, claim.terms) == (2, '{"cron":"nightly"}')
    record = rqd.record(id_)
    assert (record.origin, record.result_ttl_s, record.priority) == ("low", 9, 5)
    assert (record.meta, record.created_us) == (b"notes", ticked.now_us)
    assert rqd.views.queue_names() == ["low"]
    (seen,) = crons.all()
    assert (seen.last_us, seen.last_job, seen.runs) == (latest_us, id_, 1)
    assert seen.next_us == ticked.next_us


def test_of_all_masters_one_makes_the_run(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry())
    make_due(rqd)
    seen = [Crons(Driver(rqd.url).store).due() for _ in range(5)]

    ticked = [
        Crons(Driver(rqd.url).store).tick(due.entries[0], *plan(due.entries[0], due.now_us))
        for due in seen
    ]

    assert [one.is_stale for one in ticked] == [False, True, True, True, True]
    assert len({one.next_us for one in ticked}) == 1
    assert len(jobs_of(rqd)) == 1


def test_a_tick_sent_twice_makes_one_run_even_if_that_is_gone(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry(result_ttl_s=0))
    make_due(rqd)
    due = crons.due()
    told = plan(due.entries[0], due.now_us)
    crons.tick(due.entries[0], *told)
    rqd.settle(rqd.claim_one())
    assert rqd.views.job(told[0][0][0]) is None

    assert crons.tick(due.entries[0], *told).is_stale
    # Nor does an entry that is removed and made anew, or a clock that goes back.
    crons.remove("nightly")
    crons.save(an_entry(result_ttl_s=0))
    rqd.redis.zadd(rqd.keys.crons, {"nightly": due.entries[0].due_us})
    (again,) = tick(crons)

    assert (again.is_stale, again.made) == (False, 0)
    assert jobs_of(rqd) == []


def clock_goes_back(rqd: Driver, by_us: int) -> int:
    """As if it had been so far ahead until now; returns when the entry is due."""
    ahead_us = rqd.views.now_us() + by_us
    rqd.redis.zadd(rqd.keys.crons, {"nightly": ahead_us}, xx=True)
    rqd.counters(seen=ahead_us)
    return ahead_us


def test_after_a_clock_that_was_hours_ahead_an_entry_goes_on_with_its_next_run(
    rqd: Driver, crons: Crons
) -> None:
    for name in ("nightly", "paused"):
        crons.save(an_entry(name))
    paused = crons.find("paused")
    assert paused
    crons.pause(paused)
    clock_goes_back(rqd, 4 * HOUR_US)

    answer = rqd.beat()

    assert answer.next_cron_us == answer.now_us
    (ticked,) = tick(crons)
    assert ticked.next_us
    assert ticked.next_us <= ticked.now_us + MINUTE_US
    # A minute may have begun meanwhile.
    assert ticked.made <= 1
    assert rqd.beat().next_cron_us == ticked.next_us


def test_a_clock_that_goes_back_by_an_hour_makes_no_run_twice(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry())
    due_us = clock_goes_back(rqd, HOUR_US)

    assert rqd.beat().next_cron_us == due_us
    assert tick(crons) == []


@pytest.mark.parametrize(("missed", "made"), [("skip", 1), ("once", 1), ("all", 31)])
def test_missed_runs_are_made_up_for_as_asked(
    rqd: Driver, crons: Crons, missed: str, made: int
) -> None:
    crons.save(an_entry(schedule={"missed": missed}))
    due_us = make_due(rqd, late_us=30 * MINUTE_US)

    (ticked,) = tick(crons)

    now_minute = ticked.now_us // MINUTE_US * MINUTE_US
    assert abs(ticked.made - made) <= (missed == "all")  # a minute may begin meanwhile
    assert jobs_of(rqd)[-1] == run_id("nightly", now_minute)
    assert (run_id("nightly", due_us) in jobs_of(rqd)) == (missed == "all")
    assert ticked.next_us == now_minute + MINUTE_US


def test_a_hundred_missed_runs_a_tick_and_the_rest_at_once(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry(schedule={"missed": "all"}))
    make_due(rqd, late_us=150 * MINUTE_US)

    (first,) = tick(crons)
    assert first.next_us is not None
    assert first.next_us <= first.now_us
    (second,) = tick(crons)

    assert first.made == 100
    assert first.made + second.made == len(jobs_of(rqd)) >= 151
    assert second.next_us is not None
    assert second.next_us > second.now_us


def test_an_entry_saved_again_goes_on_and_a_changed_one_is_due_by_its_new_time(
    rqd: Driver, crons: Crons
) -> None:
    crons.save(an_entry())
    make_due(rqd)
    tick(crons)
    due_us = make_due(rqd, late_us=1_000_000)

    assert not crons.save(an_entry(source="file"))
    (same,) = crons.all()
    assert (same.next_us, same.runs, same.source) == (due_us, 1, "file")
    seen = crons.due()
    assert crons.save(an_entry(cron="0 0 1 1 *"))
    (changed,) = crons.all()

    assert changed.next_us is not None
    assert changed.next_us > seen.now_us
    assert (changed.runs, changed.last_us) == (1, same.last_us)
    # A master that had seen the old one does nothing.
    made = len(jobs_of(rqd))
    assert crons.tick(seen.entries[0], *plan(seen.entries[0], seen.now_us)).is_stale
    assert len(jobs_of(rqd)) == made


def test_a_change_of_the_job_leaves_a_missed_run_due(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry())
    due_us = make_due(rqd, late_us=30 * MINUTE_US)

    assert crons.save(an_entry(timeout_s=5))

    assert crons.all()[0].next_us == due_us
    assert tick(crons)[0].made == 1


def test_a_paused_entry_is_due_at_no_time_even_if_it_is_changed(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry())
    make_due(rqd)
    seen = crons.due()
    (record,) = crons.all()

    assert crons.pause(record)

    assert crons.tick(seen.entries[0], *plan(seen.entries[0], seen.now_us)).is_stale
    crons.save(an_entry(timeout_s=5))
    (paused,) = crons.all()
    assert (paused.is_paused, paused.next_us) == (True, None)
    assert crons.due().entries == ()
    assert not crons.resume(record)  # an older version
    assert crons.resume(paused)
    (resumed,) = crons.all()
    assert resumed.next_us is not None
    assert jobs_of(rqd) == []


def test_masters_are_woken_for_a_new_entry_and_their_beat_says_when(
    rqd: Driver, crons: Crons
) -> None:
    assert rqd.beat().next_cron_us is None
    crons.save(an_entry())

    assert rqd.redis.zrange(rqd.keys.wake_master("m"), 0, -1) == [b"command"]
    assert rqd.beat().next_cron_us == crons.all()[0].next_us


def test_a_files_entries_replace_what_came_from_it_and_nothing_else(
    rqd: Driver, crons: Crons
) -> None:
    crons.save(an_entry("by-hand"))
    crons.load([an_entry("other", source="other.toml")], "other.toml")
    first = [an_entry(name, source="a.toml") for name in ("old", "kept", "changed")]
    assert crons.load(first, "a.toml") == (["old", "kept", "changed"], [])

    second = [
        first[1],
        replace(first[2], schedule=Schedule("@daily")),
        an_entry("new", source="a.toml"),
    ]
    assert crons.load(second, "a.toml") == (["changed", "new"], ["old"])

    assert [one.name for one in crons.all()] == ["by-hand", "changed", "kept", "new", "other"]


def test_a_run_is_left_out_while_a_job_has_the_entrys_unique_key(rqd: Driver, crons: Crons) -> None:
    terms = '{"unique":{"key":"report","on_conflict":"refuse","until":"finished"}}'
    crons.save(an_entry(terms=terms))
    make_due(rqd, late_us=3 * MINUTE_US)
    assert tick(crons)[0].made == 1
    claim = rqd.claim_one()
    make_due(rqd, late_us=2 * MINUTE_US)

    crons.run("nightly", "by-hand")
    assert jobs_of(rqd) == []
    rqd.settle(claim)

    assert crons.run("nightly", "by-hand")
    assert crons.run("nightly", "by-hand")
    assert jobs_of(rqd) == ["by-hand"]


@pytest.mark.parametrize("fate", ["ran", "deleted", "expired", "entry removed"])
def test_a_run_by_hand_that_is_sent_again_is_answered_as_at_first(
    rqd: Driver, crons: Crons, fate: str
) -> None:
    terms = '{"unique":{"key":"report","on_conflict":"refuse","until":"finished"}}'
    crons.save(an_entry(terms=terms, result_ttl_s=0, ttl_s=0.001 if fate == "expired" else None))
    first = crons.run("nightly", "by-hand")
    assert first is not None
    match fate:
        case "ran":
            rqd.settle(rqd.claim_one())
        case "deleted":
            rqd.store.delete("by-hand")
        case "expired":
            eventually(lambda: not rqd.redis.exists(rqd.keys.job("by-hand")))
        case "entry removed":
            crons.remove("nightly")

    second = crons.run("nightly", "by-hand")

    assert second is not None
    assert (second.func_name, second.payload) == (first.func_name, first.payload)
    assert rqd.claim(1) == [] or fate == "entry removed"


def test_a_schedule_that_cannot_be_read_is_set_aside_and_can_be_mended(
    rqd: Driver, crons: Crons
) -> None:
    crons.save(an_entry())
    make_due(rqd)
    (entry,) = crons.due().entries

    crons.tick(entry, [], None, "no schedule: 'x'")

    (record,) = crons.all()
    assert (record.next_us, record.error) == (None, "no schedule: 'x'")
    assert crons.due().entries == ()
    assert crons.save(an_entry())
    (record,) = crons.all()
    assert (record.next_us is None, record.error) == (False, "")


@pytest.mark.parametrize("score", ["-inf", -1e300, 0.5])
def test_a_due_time_that_is_none_is_due_and_mended(
    rqd: Driver, crons: Crons, score: float | str
) -> None:
    crons.save(an_entry())
    rqd.redis.zadd(rqd.keys.crons, {"nightly": score})
    assert rqd.beat().next_cron_us == 0

    (ticked,) = tick(crons)

    assert not ticked.is_stale
    assert ticked.next_us is not None
    assert crons.due().entries == ()


def test_an_entry_that_lacks_its_queue_goes(rqd: Driver, crons: Crons) -> None:
    crons.save(an_entry())
    make_due(rqd)
    rqd.redis.hdel(rqd.keys.cron("nightly"), "queue")

    assert crons.due().entries == ()
    assert rqd.redis.zcard(rqd.keys.crons) == 0


def test_a_name_without_its_entry_goes(rqd: Driver, crons: Crons) -> None:
    rqd.redis.zadd(rqd.keys.crons, {"ghost": 1, "string": 2})
    rqd.redis.set(rqd.keys.cron("string"), "not ours")

    due = crons.due()

    assert (due.entries, due.next_us) == ((), None)
    assert rqd.redis.zcard(rqd.keys.crons) == 0


@pytest.mark.parametrize("key", ["queue:low", "nonempty", "counters", "queues"])
def test_a_foreign_key_stops_a_tick_before_its_first_write(
    rqd: Driver, crons: Crons, key: str
) -> None:
    crons.save(an_entry())
    make_due(rqd)
    due = crons.due()
    rqd.redis.set(f"{{rqd}}:{key}", "not ours")
    before = rqd.dump()

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        crons.tick(due.entries[0], *plan(due.entries[0], due.now_us))

    assert rqd.dump() == before


def test_a_beat_goes_on_where_the_index_of_entries_is_something_else(
    every_server: RedisServer,
) -> None:
    rqd = Driver(every_server.url)
    rqd.redis.set(rqd.keys.crons, "not ours")

    assert rqd.beat().next_cron_us is None
