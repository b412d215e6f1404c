"""A filter of jobs: its words, what they mean, and what is said of words that are none."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rqd.model.errors import ConfigurationError
from rqd.model.filter import CAUSES, INDEX_OF_STATE, WORDS, Filter, cause_kind
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Stopped,
    Succeeded,
    TimedOut,
    cause,
)

NOW_US = 1_800_000_000_000_000
PRINTABLE = some.text(
    some.characters(categories=["L", "N", "P", "S"]) | some.just(" "), max_size=20
)
NAMES = some.text("abz09_.-'\"\\", min_size=1, max_size=10)
INSTANTS = some.datetimes(timezones=some.just(UTC)).map(datetime.isoformat)


def test_words_stand_in_any_order_and_quotes_hold_spaces_together() -> None:
    text = "cause:'no space left' queue:mail,low  function:app.send id:3f since:2h state:queued"

    assert Filter.parse(text) == Filter(
        state="queued",
        queue=("mail", "low"),
        function="app.send",
        cause="no space left",
        since="2h",
        id="3f",
    )
    assert Filter.parse("") == Filter() == Filter(state="failed")
    assert Filter.parse('"cause:a b"') == Filter.parse('cause:"a b"')
    assert Filter.parse("cause:crashed: SIGSEGV".replace(": ", ":\\ ")).cause == "crashed: SIGSEGV"


@given(
    some.builds(
        Filter,
        state=some.sampled_from(sorted(INDEX_OF_STATE)),
        queue=some.lists(NAMES, max_size=3).map(tuple),
        function=PRINTABLE,
        cause=PRINTABLE | some.sampled_from(sorted(CAUSES)),
        type=PRINTABLE,
        frame=PRINTABLE,
        host=NAMES | some.just(""),
        since=some.sampled_from(["", "90", "2h", "1.5d"]) | INSTANTS,
        id=some.text("abcZ09_-", max_size=20),
    )
)
def test_a_filter_reads_back_as_it_is_written(one: Filter) -> None:
    assert Filter.parse(str(one)) == one


@given(some.text(max_size=60))
def test_any_text_is_a_filter_or_an_error_of_one_line(text: str) -> None:
    told = ""
    try:
        found = Filter.parse(text)
    except ConfigurationError as error:
        told = str(error)
    else:
        assert Filter.parse(str(found)) == found
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("quue:low", "'quue:low' is no filter word: write state:, queue:, function:, cause:"),
        ("low", "'low' is no filter word"),
        ("queue:", "filter word queue: has no value"),
        ("id:a id:b", "filter word id: stands twice"),
        ("queue:a,,b", "queue name '' must be"),
        ("state:broken", "state 'broken' is not one of failed, stopped, finished"),
        ("since:soon", "since 'soon' is no time: write 90, 30m, 2h or 3d ago"),
        ("until:-1", "until '-1' is no time"),
        ("id:a/b", "the beginning of an id 'a/b' may have"),
        ("'host:a b'", "host 'a b' must be"),
        ("cause:'open", "a quote or a backslash has no end"),
        (f"cause:{'x' * 513}", "may have 512 printable characters"),
        ("'cause:a\nb'", "'a\\nb' may have 512 printable"),
    ],
)
def test_a_word_that_can_not_be_is_named_with_what_can(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Filter.parse(text)

    assert why in str(caught.value)


def test_times_are_ago_or_instants_in_utc_unless_they_name_a_zone() -> None:
    def earliest_us(since: str) -> int:
        return Filter(since=since).instants_us(NOW_US)[0]

    now = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    assert earliest_us("2h") == NOW_US - 7200 * 10**6
    assert earliest_us("9999999999") == 0
    for instant in (now - timedelta(hours=1), (now - timedelta(hours=1)).replace(tzinfo=None)):
        assert earliest_us(instant.isoformat()) == NOW_US - 3600 * 10**6
    assert earliest_us("2027-01-15T10:00:00+02:00") == earliest_us("2027-01-15T08:00:00")
    assert Filter().instants_us(NOW_US) == (0, 2**53 - 1)
    assert Filter(until="9999-12-31").instants_us(NOW_US) == (0, 2**53 - 1)


# How each attempt can end, and the kind by which a user finds it.
ENDINGS: list[tuple[Outcome, str]] = [
    (Raised("builtins.ValueError", "no", ""), "raised"),
    (TimedOut(3, killed=True), "timed_out"),
    (TimedOut(3, killed=False, is_cpu=True), "timed_out"),
    (Crashed(signal.SIGSEGV), "crashed"),
    (Crashed(exit_status=3), "crashed"),
    (OutOfMemory(5, 4), "out_of_memory"),
    (OutOfMemory(5, None), "out_of_memory"),
    (Refused("its signature is wrong"), "refused"),
    (Stopped("ops"), "stopped"),
    (Lost("its zygote died"), "other"),
    (AskedAgain(3), "other"),
    (Succeeded(b""), "other"),
    (Released("r"), "other"),
    (Parked("p", 1), "other"),
]


def test_each_ending_has_its_kind() -> None:
    assert {type(outcome) for outcome, _ in ENDINGS} == set(get_args(Outcome))
    assert [cause_kind(cause(outcome)) for outcome, _ in ENDINGS] == [kind for _, kind in ENDINGS]
    assert cause_kind("abandoned: lost with m, loss 3 in a row") == "abandoned"


def test_the_words_are_the_filters_fields() -> None:
    assert {*WORDS, "is_to_retry"} == {*Filter.__dataclass_fields__}


def test_stopped_jobs_are_to_be_retried_only_if_they_are_named() -> None:
    assert Filter().to_retry().statuses == ("failed",)
    assert Filter().statuses == Filter(cause="ops").to_retry().statuses == ("failed", "stopped")
    assert Filter("stopped").to_retry().statuses == ("stopped",)
