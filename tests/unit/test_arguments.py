"""The arguments of `rqd enqueue`, in the forms RQ's users write."""

from pathlib import Path
from typing import Any

import pytest

from rqd.cli.enqueue import parse_arguments
from rqd.model.errors import ConfigurationError


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
