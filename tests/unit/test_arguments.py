"""The arguments of `rqd enqueue`, in the forms RQ's users write."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.cli.enqueue import parse_arguments
from rqd.model.errors import ConfigurationError
from tests.fuzzing import fuzz

# What a shell can hand over: any text without NUL, bytes that are none among it.
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from(":%=@'\"\\{}[](),.*-1e\udc80\udcff"),
    max_size=12,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("abc", "abc"),
        ("", ""),
        ("20", "20"),
        (":20", 20),
        (":[1, null]", [1, None]),
        (':"a=b"', "a=b"),
        ("%(1, 2)", (1, 2)),
        ("%None", None),
        ("%{'a': b'x'}", {"a": b"x"}),
        ("http://h/?a=b", "http://h/?a=b"),
        ("=x", "=x"),
        ("a b=c", "a b=c"),
    ],
)
def test_a_positional_argument(argument: str, value: Any) -> None:
    assert parse_arguments((argument,)) == ([value], {})


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("x=abc", "x", "abc"),
        ("x=", "x", ""),
        ("x=a=b", "x", "a=b"),
        ("x=:1", "x", ":1"),
        ("x:=20", "x", 20),
        ('x:={"a": 1}', "x", {"a": 1}),
        ("x%=(1,)", "x", (1,)),
        ("größe=1", "größe", "1"),
    ],
)
def test_an_argument_by_keyword(argument: str, name: str, value: Any) -> None:
    assert parse_arguments((argument,)) == ([], {name: value})


def test_the_order_is_kept() -> None:
    assert parse_arguments(("a", "x=1", ":2", "y:=3")) == (["a", 2], {"x": "1", "y": 3})


@pytest.mark.parametrize(
    ("form", "value"),
    [("@{}", "[1, 2]"), (":@{}", [1, 2]), ("%@{}", [1, 2])],
)
def test_a_value_from_a_file(form: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "argument"
    path.write_text("[1, 2]")

    assert parse_arguments((form.format(path),)) == ([value], {})
    assert parse_arguments((f"x={path}".replace("=", "=@"),)) == ([], {"x": "[1, 2]"})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((":nope",), "':nope' is not JSON"),
        (("x:=",), "'x:=' is not JSON"),
        (("%f()",), "'%f\\(\\)' is not a Python literal"),
        (("%" + "(" * 1000,), "is not a Python literal"),
        (("@/no/such/file",), "argument @/no/such/file: .*No such file"),
        (("@/",), "argument @/: .*directory"),
        (("x=1", "x:=2"), "argument x= is given twice"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parse_arguments(arguments)


@fuzz(150)
@given(st.lists(TEXT, max_size=3), st.sampled_from(["", ":", "%", "a:=", "a%="]))
def test_any_arguments_are_read_or_refused(texts: list[str], form: str) -> None:
    # A file that is named is read; these are none.
    arguments = tuple((form + text).replace("@", "@/no/such/") for text in texts)
    try:
        args, kwargs = parse_arguments(arguments)
    except ConfigurationError:
        return
    assert len(args) + len(kwargs) == len(arguments)


@fuzz(60)
@given(JSON, NAME)
def test_any_json_and_any_literal_come_through(value: Any, name: str) -> None:
    written = json.dumps(value)
    given_as = (f":{written}", f"%{value!r}", f"{name}:={written}", f"x_{name}%={value!r}")
    assert parse_arguments(given_as) == ([value, value], {name: value, f"x_{name}": value})


@fuzz(60)
@given(TEXT.filter(lambda text: text[:1] not in tuple(":%@")), NAME)
def test_any_text_stays_text(text: str, name: str) -> None:
    assert parse_arguments((f"{name}={text}",)) == ([], {name: text})
    if "=" not in text:
        assert parse_arguments((text,)) == ([text], {})
