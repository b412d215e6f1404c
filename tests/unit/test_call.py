"""A call becomes a name and bytes, and the same call again."""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rqd.model.call import decode_call, encode_call, import_function, name_function
from rqd.model.describe import describe_call
from rqd.model.errors import ConfigurationError, InvalidCallError, PayloadTooLargeError
from tests.unit import callables
from tests.unit.callables import Counter, add

HERE = "tests.unit.callables"


@pytest.mark.parametrize(
    ("function", "args", "name", "value"),
    [
        (add, (1,), f"{HERE}.add", 2),
        (f"{HERE}.add", (1,), f"{HERE}.add", 2),
        (f"{HERE}.Counter.double", (2,), f"{HERE}.Counter.double", 4),
        (Counter(5).count, (2,), f"{HERE}.Counter.count", 7),
        (Counter.make, (5,), f"{HERE}.Counter.make", 5),
        (Counter.double, (5,), f"{HERE}.Counter.double", 10),
        (Counter.Inner.triple, (5,), f"{HERE}.Counter.Inner.triple", 15),
        (Counter(5), (2,), f"{HERE}.Counter.__call__", 7),
        (Counter, (5,), f"{HERE}.Counter", Counter(5)),
        (callables.add_two, (1,), "functools.partial.__call__", 3),
        (partial(Counter(1).count, 2), (), "functools.partial.__call__", 3),
        (len, ("abc",), "builtins.len", 3),
        ("builtins.len", ("abc",), "builtins.len", 3),
        ("abc".upper, (), "builtins.str.upper", "ABC"),
        (str.upper, ("abc",), "builtins.str.upper", "ABC"),
        ({"a": 1}.get, ("a",), "builtins.dict.get", 1),
        (dict.fromkeys, ("a",), "builtins.dict.fromkeys", {"a": None}),
    ],
)
def test_a_call_comes_back_as_it_was(
    function: Any, args: tuple[Any, ...], name: str, value: Any
) -> None:
    shown, payload = encode_call(function, args, {})

    assert shown == name
    found, found_args, kwargs = decode_call(payload, "pickle")
    assert found(*found_args, **kwargs) == value


def test_a_coroutine_function_comes_back_as_one() -> None:
    _, payload = encode_call(callables.add_later, (1,), {"y": 4})

    function, args, kwargs = decode_call(payload, "pickle")

    assert (function, args, kwargs) == (callables.add_later, (1,), {"y": 4})


def of_main(source: str) -> Any:
    """What a script run by hand defines."""
    namespace: dict[str, Any] = {"__name__": "__main__", "partial": partial}
    exec(source, namespace)
    return namespace["made"]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: 1, "a lambda has no name to find it by"),
        (callables.make_nested(), "nested is defined inside a function"),
        (of_main("def made(): pass"), "made is in __main__"),
        (of_main("class C:\n def m(self): pass\nmade = C().m"), "C is in __main__"),
        (of_main("class C:\n def __call__(self): pass\nmade = C()"), "C is in __main__"),
        (of_main("class C:\n @classmethod\n def m(cls): pass\nmade = C.m"), "C is in __main__"),
        (of_main("def f(): pass\nmade = partial(f)"), "f is in __main__"),
        ("__main__.f", "__main__.f is in __main__"),
        ("f", "'f' is no dotted name: write 'module.function'"),
        ("", "'' is no dotted name"),
        ("tasks.f()", "'tasks.f()' is no dotted name"),
        ("../tasks.f", "is no dotted name"),
        (42, "42 is not callable"),
        (None, "None is not callable"),
        (Counter(1).hidden(), "Counter has no attribute '__hidden'"),
    ],
)
def test_what_no_other_process_can_find_is_refused(function: Any, why: str) -> None:
    with pytest.raises(InvalidCallError, match=re.escape(why)):
        name_function(function)


def test_a_method_of_a_class_inside_a_function_is_refused() -> None:
    class Local:
        def method(self) -> None: ...

    with pytest.raises(InvalidCallError, match="Local is defined inside a function"):
        name_function(Local().method)


@pytest.mark.parametrize(
    ("args", "serializer", "why"),
    [
        ((callables.Unpicklable(),), "pickle", "serialized with pickle: it stays here"),
        ((open,), "json", "the arguments of tests.unit.callables.add can't be serialized"),
        ((sys,), "pickle", "cannot pickle 'module' object"),
        ((1,), f"{HERE}.TextSerializer", "made str of it, not bytes"),
    ],
)
def test_arguments_that_do_not_serialize_are_refused(
    args: tuple[Any, ...], serializer: str, why: str
) -> None:
    with pytest.raises(InvalidCallError, match=why):
        encode_call(add, args, {}, serializer)


def test_an_unknown_serializer_is_called_so() -> None:
    with pytest.raises(ConfigurationError, match="serializer 'tomato' can't be loaded"):
        encode_call(add, (), {}, "tomato")


def test_a_payload_over_the_limit_is_refused_with_both_sizes() -> None:
    with pytest.raises(PayloadTooLargeError, match=r"add have 1,0\d\d bytes, the limit is 1,000"):
        encode_call(add, (b"x" * 1000,), {}, limit_bytes=1000)


# -- what a name leads to


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "apackage"
    folder.mkdir()
    (folder / "__init__.py").write_text("def here(): pass\n")
    (folder / "broken.py").write_text("import a_module_that_is_not_there\ndef f(): pass\n")
    (folder / "half.py").write_text("import apackage.missing\ndef f(): pass\n")
    (folder / "failing.py").write_text("raise KeyError('as it loads')\n")
    (folder / "fine.py").write_text("value = 1\nclass C:\n    def m(self): pass\n")
    yield folder
    for name in [name for name in sys.modules if name.startswith("apackage")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("nopackage.f", InvalidCallError, "no module for 'nopackage.f'.*--path"),
        ("apackage.nothing", InvalidCallError, "there is no 'nothing' in .*__init__.py"),
        (
            "apackage.fine.g",
            InvalidCallError,
            "there is no 'g' in .*fine.py, for 'apackage.fine.g': if it is new there, rqd reload",
        ),
        ("apackage.fine.C.n", InvalidCallError, "there is no 'n' in C"),
        ("apackage.fine.value", InvalidCallError, "'apackage.fine.value' is a int, not callable"),
        # What is wrong in the user's own module is the user's to see.
        ("apackage.broken.f", ModuleNotFoundError, "a_module_that_is_not_there"),
        ("apackage.half.f", ModuleNotFoundError, "apackage.missing"),
        ("apackage.failing.f", KeyError, "as it loads"),
    ],
)
def test_a_name_that_leads_nowhere_says_where_it_ends(
    package: Path, name: str, kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why):
        import_function(name)


def test_a_function_is_found_in_packages_modules_and_classes(package: Path) -> None:
    for name in ("apackage.here", "apackage.fine.C.m"):
        assert import_function(name).__qualname__ == name.removeprefix("apackage.").removeprefix(
            "fine."
        )


# -- in words


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ((20, 40), {}, "f(20, 40)"),
        (("a",), {"b": None, "c": 1.5}, "f('a', b=None, c=1.5)"),
        ((), {}, "f()"),
        ((callables.NoRepr(),), {}, "f(<NoRepr>)"),
        (("x" * 200,), {}, "f('" + "x" * 76 + "...)"),
        (([1, [2, {"a": (3,)}]],), {}, "f([1, [2, {'a': (...)}]])"),
        ((b"caf\xe9", "caf\udce9"), {}, "f(b'caf\\xe9', 'caf\\udce9')"),
    ],
)
def test_a_call_is_described_as_one_would_type_it(
    args: tuple[Any, ...], kwargs: dict[str, Any], shown: str
) -> None:
    assert describe_call("f", args, kwargs) == shown


class Table:
    def __repr__(self) -> str:
        return "key  value\n  0    a      1\n  1    b      2"


def test_a_call_is_described_in_one_line() -> None:
    shown = "key value 0 a 1 1 b 2"
    assert describe_call("f", (Table(),), {"all": [Table()]}) == f"f({shown}, all=[{shown}])"


def test_a_description_is_short_and_cheap_however_large_the_arguments() -> None:
    big: list[Callable[[], Any]] = [
        lambda: "x" * 50_000_000,
        lambda: b"x" * 50_000_000,
        lambda: list(range(2_000_000)),
        lambda: {"deep": ["x" * 50_000_000]},
    ]
    for make in big:
        assert len(describe_call("f", (make(),), {})) < 100
    assert len(describe_call("f", tuple(range(5000)), {})) == 1000
