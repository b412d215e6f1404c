"""Names, ids and durations: what may stand in a key, and what an argument of time means."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.model.errors import ConfigurationError, InvalidNameError
from rqd.model.names import (
    check_job_id,
    check_name,
    check_queue_name,
    parse_duration_s,
    parse_size_bytes,
)
from rqd.store.keys import Keys
from tests.fuzzing import fuzz

INDEXES = ("started", "scheduled", "deferred", "finished", "failed", "canceled")
ANYTHING = (
    st.text(max_size=200)
    | st.from_regex(r"\s*-?\d{0,12}(\.\d{0,3})?\s*[smhdwSMHDWy]?\s*")
    | st.from_regex(r"[\w:.-]{0,20}(:(started|failed|finished))?")
    | st.floats()
    | st.integers()
    | st.none()
    | st.booleans()
    | st.binary(max_size=5)
)


@pytest.mark.parametrize("job_id", ["a", "A-z_0", "7", "x" * 255])
def test_a_job_id_of_letters_digits_and_dashes_is_good(job_id: str) -> None:
    assert check_job_id(job_id) == job_id


@pytest.mark.parametrize("job_id", ["", "a b", "a:b", "ä", "a\n", "x" * 256, "{a}", "a/b", "a.b"])
def test_any_other_job_id_is_refused(job_id: str) -> None:
    with pytest.raises(ConfigurationError, match="letters, digits, '_' and '-' only"):
        check_job_id(job_id)


@pytest.mark.parametrize("job_id", [7, None, b"a"])
def test_an_id_that_is_no_text_is_refused_as_one(job_id: object) -> None:
    with pytest.raises(ConfigurationError, match="letters, digits"):
        check_job_id(job_id)  # type: ignore[arg-type]  # what is tried here


@pytest.mark.parametrize("name", ["low", "app:high", "größe", "a.b-c_d/e", "x" * 128, "finished"])
def test_a_queue_may_have_any_plain_name(name: str) -> None:
    assert check_queue_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a,b", "a{b}", "a\n", "a\x00", "x" * 129, "caf\udce9", None, 7]
)
def test_a_name_that_would_break_a_key_or_a_list_is_refused(name: object) -> None:
    with pytest.raises(InvalidNameError, match=r"queue name .* must be 1 to 128 characters"):
        check_name(name, "queue name")  # type: ignore[arg-type]  # what is tried here


@pytest.mark.parametrize(
    "index", ["started", "scheduled", "deferred", "finished", "failed", "canceled"]
)
def test_a_queue_may_not_have_the_key_of_another_queues_index(index: str) -> None:
    with pytest.raises(InvalidNameError, match=f"another word than '{index}'"):
        check_queue_name(f"mail:{index}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (90, 90),
        (1.5, 1.5),
        (0, 0),
        (-1, -1),
        ("90", 90),
        ("-1", -1),
        ("30s", 30),
        ("23m", 1380),
        ("1h", 3600),
        ("2d", 172_800),
        ("1w", 604_800),
        (" 1.5 H ", 5400),
    ],
)
def test_a_duration_is_read(value: float | str | None, seconds: float | None) -> None:
    assert parse_duration_s(value, "ttl") == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "1y", "-5", "1h30m", "9" * 20, "99999999w", "nan", "inf", "1e3"]
)
def test_any_other_text_is_no_duration(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ttl .* is no duration: write .*, '2d'$"):
        parse_duration_s(value, "ttl")


@pytest.mark.parametrize("value", [-2, -0.5, 10**10, math.nan, math.inf, True, [], b"1h"])
def test_any_other_value_is_no_duration(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"ttl .* is no duration"):
        parse_duration_s(value, "ttl")  # type: ignore[arg-type]  # what is tried here


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("1", 1), ("64k", 65536), (" 16M ", 16 * 1024**2), ("1G", 1024**3)]
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text, "--payload-limit") == size_bytes


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "1T", "M", "1 0", "\u0661", "9" * 13])
def test_any_other_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no size: write bytes, or 64K"):
        parse_size_bytes(text, "--payload-limit")


@fuzz(80)
@given(ANYTHING)
def test_anything_is_a_duration_in_its_bounds_or_is_refused(value: Any) -> None:
    try:
        seconds = parse_duration_s(value, "ttl")
    except ConfigurationError:
        return
    assert seconds is None or seconds == -1 or 0 <= seconds < 10**10


@fuzz(80)
@given(ANYTHING)
def test_anything_is_a_name_that_keeps_keys_apart_or_is_refused(name: Any) -> None:
    try:
        check_queue_name(name)
    except ConfigurationError:
        return
    keys = Keys("n")
    of_others = {keys.index(queue, index) for queue in ("low", name) for index in INDEXES}
    assert keys.ready(name) not in of_others | {keys.wake_queue(name), keys.stats(name)}
    assert not set(" ,{}\n\r\t\0") & set(name)
    assert name.encode()


@fuzz(80)
@given(ANYTHING)
def test_anything_is_a_job_id_or_is_refused(job_id: Any) -> None:
    try:
        check_job_id(job_id)
    except ConfigurationError:
        return
    assert ":" not in Keys("n").job(job_id).removeprefix("{n}:job:")
    assert job_id.isascii()
