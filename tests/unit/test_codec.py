"""Calls as bytes: any plain values come through, and what is no call is an error, not a crash."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.model.call import decode_call, encode_call, read_call
from tests.fuzzing import fuzz
from tests.unit.callables import add

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
VALUES = st.recursive(
    PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v), max_leaves=8
)
MORE_VALUES = st.recursive(
    PLAIN | st.binary(max_size=9) | st.complex_numbers(allow_nan=False),
    lambda v: st.tuples(v, v) | st.lists(v, max_size=3),
    max_leaves=8,
)
KEYWORDS = st.text(max_size=5)


@fuzz(40)
@given(st.lists(MORE_VALUES, max_size=4), st.dictionaries(KEYWORDS, MORE_VALUES, max_size=3))
def test_any_call_comes_through_pickle(args: list[Any], kwargs: dict[str, Any]) -> None:
    name, payload = encode_call(add, tuple(args), kwargs)
    assert name == "tests.unit.callables.add"
    assert decode_call(payload, "pickle") == (add, tuple(args), kwargs)


@fuzz(40)
@given(st.lists(VALUES, max_size=4), st.dictionaries(KEYWORDS, VALUES, max_size=3))
def test_any_plain_call_comes_through_json(args: list[Any], kwargs: dict[str, Any]) -> None:
    _, payload = encode_call(add, tuple(args), kwargs, "json")
    assert decode_call(payload, "json") == (add, tuple(args), kwargs)


@fuzz(40)
@given(st.lists(VALUES, max_size=3), st.integers(1, 60), st.sampled_from(["pickle", "json"]))
def test_a_payload_that_breaks_off_is_an_error(args: list[Any], lost: int, serializer: str) -> None:
    _, payload = encode_call(add, tuple(args), {}, serializer)
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the serializer's own
        read_call(payload[: -min(lost, len(payload))], serializer)


@fuzz(40)
@given(st.binary(max_size=40) | VALUES.map(lambda v: repr(v).encode(errors="replace")))
def test_what_is_no_payload_is_an_error(payload: bytes) -> None:
    # Not with pickle: bytes that are made up may do anything there.
    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        decode_call(payload, "json")
