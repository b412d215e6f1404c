"""When cron entries are due, against a search of every minute; what a late tick makes up for."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.model.errors import ConfigurationError
from rqd.model.schedule import MOST_RUNS, Missed, Plan, Schedule
from tests.fuzzing import fuzz

MINUTE = timedelta(minutes=1)
SECOND_US = 1_000_000
# Days on which clocks jump: forth, back, by half an hour, at midnight, for Ramadan, by a whole day.
JUMPS = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("America/Havana", "2024-03-10"),
    ("America/Havana", "2024-11-03"),
    ("Africa/Casablanca", "2024-03-10"),
    ("Africa/Casablanca", "2024-04-14"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kathmandu", "2026-01-01"),
]
MINUTES = ["*", "*/7", "30", "0", "59", "0,15,45", "5-10"]
HOURS = ["*", "*/2", "0", "2", "3", "23", "1-3", "0,2,12"]


def numbers(field: str, end: int) -> set[int]:
    """What a field of a cron expression names."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first, last = (0, end - 1) if span == "*" else (int(low), int(high or low))
        found |= set(range(first, last + 1, int(step or 1)))
    return found


@cache
def walls(zone: str, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """What the clock shows at each minute."""
    every = (start + n * MINUTE for n in range((end - start) // MINUTE + 1))
    return {at: at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in every}


def searched(zone: str, minute: str, hour: str, start: datetime, end: datetime) -> set[datetime]:
    """Every run from start to end, by looking at each minute."""
    shown = walls(zone, start, end)
    in_minutes, in_hours = numbers(minute, 60), numbers(hour, 24)

    def is_wanted(wall: datetime) -> bool:
        return wall.minute in in_minutes and wall.hour in in_hours

    if minute.startswith("*") or hour.startswith("*"):
        return {at for at, wall in shown.items() if is_wanted(wall)}
    first = {wall: at for at, wall in reversed(shown.items())}
    found, wall, last = set(), min(first), max(first)
    while wall <= last:
        if is_wanted(wall):
            found.add(first.get(wall) or min(at for at in shown if shown[at] > wall))
        wall += MINUTE
    return found


def us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(("zone", "day"), JUMPS)
@fuzz(5)
@given(st.sampled_from(MINUTES), st.sampled_from(HOURS))
def test_no_run_is_left_out_or_doubled_where_clocks_jump(
    zone: str, day: str, minute: str, hour: str
) -> None:
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    start, end = middle - timedelta(hours=16), middle + timedelta(hours=40)
    schedule = Schedule(f"{minute} {hour} * * *", zone)

    found, at_us = [], us(start) - 1
    while (following := schedule.next_after(at_us)) is not None and following <= us(end):
        assert following > at_us
        at_us = following
        found.append(at_us)

    wanted = searched(zone, minute, hour, start, end)
    # What begins before the search does is not all seen by it.
    margin = us(start + timedelta(hours=2))
    assert [at for at in found if at > margin] == sorted(us(at) for at in wanted if us(at) > margin)


@fuzz(60)
@given(
    st.sampled_from([zone for zone, _ in JUMPS]),
    st.sampled_from(["0 0 1 * *", "*/5 3 * * 0", "15 2 29 2 *", "0 12 * * MON#1", "30 1 L * *"]),
    st.integers(0, 2_000_000_000),
)
def test_between_an_instant_and_its_next_run_there_is_none(
    zone: str, cron: str, after_s: int
) -> None:
    schedule = Schedule(cron, zone)
    following = schedule.next_after(after_s * SECOND_US)
    assert following is not None

    for part in (0, 1, 7, 9):
        between = after_s * SECOND_US + (following - after_s * SECOND_US) * part // 10
        assert schedule.next_after(between) == following
    assert schedule.next_after(following - 1) == following


def test_macros_and_names_are_what_cron_calls_them() -> None:
    for macro, cron in (
        ("@daily", "0 0 * * *"),
        ("@Weekly", "0 0 * * SUN"),
        ("@hourly", "0 * * * *"),
    ):
        assert Schedule(macro).next_after(10**15) == Schedule(cron).next_after(10**15)


def test_an_interval_runs_at_its_multiples() -> None:
    schedule = Schedule(interval_s=90)

    assert schedule.next_after(0) == 90 * SECOND_US
    assert schedule.next_after(90 * SECOND_US - 1) == 90 * SECOND_US
    assert schedule.next_after(90 * SECOND_US) == 180 * SECOND_US


HOUR_US, DAY_US = 3600 * SECOND_US, 86400 * SECOND_US
NOON = us(datetime(2026, 5, 5, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("missed", "late_us", "runs"),
    [
        # On time, a little late.
        (Missed.SKIP, 0, [0]),
        (Missed.ONCE, 0, [0]),
        (Missed.ALL, 0, [0]),
        (Missed.SKIP, 59 * SECOND_US, [0]),
        # The run of noon was missed, nothing after it.
        (Missed.SKIP, HOUR_US // 2, []),
        (Missed.ONCE, HOUR_US // 2, [0]),
        (Missed.ALL, HOUR_US // 2, [0]),
        # Three were, and the fourth is due just now.
        (Missed.SKIP, 3 * HOUR_US + 1, [3]),
        (Missed.ONCE, 3 * HOUR_US + 1, [3]),
        (Missed.ALL, 3 * HOUR_US + 1, [0, 1, 2, 3]),
        # More than the window of six hours.
        (Missed.ONCE, 9 * HOUR_US, [9]),
        (Missed.ALL, 9 * HOUR_US, [3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_missed_runs_are_made_up_for_as_was_asked(
    missed: Missed, late_us: int, runs: list[int]
) -> None:
    for schedule in (
        Schedule("0 * * * *", missed=missed, window_s=6 * 3600),
        Schedule(interval_s=3600, missed=missed, window_s=6 * 3600),
    ):
        plan = schedule.plan(NOON, NOON + late_us)

        assert plan.runs_us == tuple(NOON + hour * HOUR_US for hour in runs)
        assert plan.next_us == NOON + (late_us // HOUR_US + 1) * HOUR_US


@pytest.mark.parametrize("missed", [Missed.ONCE, Missed.ALL])
def test_a_run_older_than_the_window_is_left_out(missed: Missed) -> None:
    schedule = Schedule("0 12 * * *", missed=missed, window_s=3600)

    assert schedule.plan(NOON, NOON + 2 * HOUR_US) == Plan((), NOON + DAY_US)


def test_a_tick_makes_up_for_a_hundred_runs_and_the_rest_is_due_at_once() -> None:
    schedule = Schedule("* * * * *", missed=Missed.ALL)
    late = NOON + 150 * 60 * SECOND_US

    first = schedule.plan(NOON, late)
    assert first.next_us is not None
    second = schedule.plan(first.next_us, late)

    assert len(first.runs_us) == MOST_RUNS
    assert first.next_us <= late
    every = [NOON + minute * 60 * SECOND_US for minute in range(151)]
    assert [*first.runs_us, *second.runs_us] == every
    assert second.next_us == late + 60 * SECOND_US


@pytest.mark.parametrize(
    "arguments",
    [
        {"cron": "0 0 * * *", "interval_s": 5}, {}, {"cron": "* * * *"}, {"cron": "61 * * * *"},
        {"cron": "0 0 * * * *"}, {"cron": "@reboot"}, {"cron": "0 0 31 2 *"}, {"interval_s": -1},
        {"interval_s": 10**9}, {"interval_s": 1.5}, {"cron": "* * * * *", "timezone": "Mars/Base"},
        {"cron": "* * * * *", "timezone": "/etc/passwd"}, {"interval_s": 5, "window_s": 0},
        {"interval_s": 5, "window_s": 10**9},
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"write|bad|needs"):
        Schedule(**arguments)


def test_a_schedule_comes_back_as_it_was_written() -> None:
    for schedule in (
        Schedule("0 3 * * *", "Europe/Berlin", missed=Missed.ALL, window_s=60),
        Schedule(interval_s=90, missed=Missed.SKIP),
    ):
        assert Schedule.parse(schedule.dump()) == schedule


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"missed":"x","cron":"* * * * *"}', '{"missed":"once","cron":5}',
     '{"missed":"once","cron":"* * * * *","timezone":[]}', '{"missed":[],"interval_s":5}',
     '{"missed":"once","interval_s":"5"}', '{"missed":"once","interval_s":5,"window_s":null}'],
)  # fmt: skip
def test_a_damaged_schedule_is_told_apart(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Schedule.parse(text)
