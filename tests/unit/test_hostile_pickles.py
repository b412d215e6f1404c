"""No pickle, whatever its steps, calls or changes anything that is not on the allowlist."""

import copyreg
import pickle
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import BuiltinMethodType, FunctionType, MethodDescriptorType, MethodType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.model.allowlist import Allowlist
from rqd.model.call import decode_call, encode_call
from rqd.model.errors import NotAllowedError
from tests import admitted, forbidden
from tests.fuzzing import fuzz, time_limit_s
from tests.made_up_pickles import EXTENSION, pickled_calls
from tests.pickles import (
    built,
    call_of,
    call_that_renames,
    called,
    dict_of,
    ended,
    named,
    slot_state,
    text,
)

ALLOWED = Allowlist(["tests.admitted.*"])
HERE = "tests.admitted"
PATH = type(Path())

# By its own list, so that a type added to the allowlist's own has to be looked at here, too.
PLAIN = {
    "builtins": ["bytearray", "complex", "frozenset", "range", "set", "slice"],
    "collections": ["Counter", "OrderedDict", "deque"],
    "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
    "decimal": ["Decimal"],
    "fractions": ["Fraction"],
    "uuid": ["SafeUUID", "UUID"],
    "zoneinfo": ["ZoneInfo"],
}
PLAIN_TYPES = {getattr(__import__(home), name) for home in PLAIN for name in PLAIN[home]}
BUILT_IN = {type(None), bool, int, float, str, bytes, tuple, list, dict}
OWN = [value for value in vars(admitted).values() if getattr(value, "__module__", "") == HERE]
OWN_CLASSES = {kind for kind in OWN if isinstance(kind, type) and kind is not admitted.Makes}
OWN_FUNCTIONS = [value for value in OWN if isinstance(value, FunctionType)]
METHODS = [getattr(m, "__func__", m) for kind in OWN_CLASSES for m in vars(kind).values()]
ADMITTED_TYPES = PLAIN_TYPES | BUILT_IN | OWN_CLASSES
# What the reader itself runs; a plain type's constructor is among them.
RUN_BY_READER = (
    *("rqd.", "pickle", "copyreg", "collections", "fractions", "uuid", "enum", "zoneinfo"),
    *(HERE, __name__, "importlib", "_frozen_importlib", "encodings", "re", "codecs", "numbers"),
    *("weakref", "dataclasses"),  # the cache of time zones; how an order is shown
    "hypothesis",  # counts collections of garbage
)


# -- attacks one by one


def read(pickled: bytes) -> Any:
    return decode_call(pickled, "pickle", ALLOWED)


ORDER = named(HERE, "Order")
ECHO = named(HERE, "echo")
AN_ORDER = called(ORDER, b"K\x01")
RENAMED = {"__module__": text("tests"), "__qualname__": text("admitted")}
TAKES_STATE = {
    "path's class": named(PATH.__module__, PATH.__name__),
    "plain Python class": named("uuid", "UUID"),
    "allowed class": ORDER,
    "allowed function": ECHO,
    "method": named(HERE, "Order.count"),
    "class with a state of its own": named(HERE, "Keeps"),
    "member of an Enum": called(named(HERE, "Colour"), b"K\x01"),
    "class made by another": named(HERE, "Made"),
    "what a function found": called(named(HERE, "find_order")),
    "plain value that a function found": called(named(HERE, "find_id")),
}


@pytest.mark.parametrize("target", TAKES_STATE.values(), ids=TAKES_STATE.keys())
@pytest.mark.parametrize(
    "state",
    [slot_state(RENAMED), dict_of(RENAMED), dict_of({"int": b"K\x02"})],
    ids=["slots", "dict", "plain state"],
)
def test_no_state_reaches_what_was_there_before(target: bytes, state: bytes) -> None:
    with unchanged(), pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        ALLOWED.load(ended(built(target, state)))


def test_a_class_that_claims_an_allowed_name_is_no_way_to_its_methods(tmp_path: Path) -> None:
    with unchanged(), pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        read(call_that_renames(tmp_path / "planted", HERE))
    claims: Any = type("admitted", (PATH,), {"__module__": "tests"})
    for instance in (claims, claims()):
        with pytest.raises(NotAllowedError, match="there is no such class"):
            ALLOWED.find("write_text", instance)


@pytest.mark.parametrize("value", [Path("/tmp/a"), Path])
def test_a_path_is_refused_with_what_to_write(value: Any) -> None:
    with pytest.raises(NotAllowedError, match=r"Path is not allowed.*: pass str\(path\), or allow"):
        ALLOWED.load(pickle.dumps(value))
    home = type(value).__module__ if isinstance(value, Path) else Path.__module__
    allowed = Allowlist([f"{home}.{getattr(value, '__name__', type(value).__name__)}"])
    assert allowed.load(pickle.dumps(value)) == value
    with pytest.raises(NotAllowedError, match=r"write_text is not allowed by --allow"):
        allowed.find("write_text", value)


@pytest.mark.parametrize(
    "name",
    ["find_handler", "find_class", "find_own_class", "find_module", "find_path"],
)
def test_what_a_function_returns_is_no_function_class_or_foreign_type(name: str) -> None:
    with unchanged(), pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        ALLOWED.load(ended(called(named(HERE, name))))


@pytest.mark.parametrize(
    "steps",
    {
        "item": text("a") + b"K\x01s",
        "items": b"(" + text("a") + b"K\x01u",
        "append": b"K\x01a",
        "appends": b"(K\x01e",
        "add": b"(K\x01\x90",
    }.items(),
    ids=lambda steps: steps[0],
)
@pytest.mark.parametrize(
    "target",
    {
        "an instance": called(named(HERE, "Adds")),
        "a function's dict": called(named(HERE, "find_limits")),
        "a class": ORDER,
        "an order": AN_ORDER,
    }.items(),
    ids=lambda target: target[0],
)
def test_no_item_goes_where_it_calls_a_method(
    target: tuple[str, bytes], steps: tuple[str, bytes]
) -> None:
    with unchanged(), pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        ALLOWED.load(ended(target[1] + steps[1]))


def test_an_instance_is_not_called_nor_is_what_it_holds() -> None:
    for attack in (
        called(called(named(HERE, "Keeps"))),
        called(text("abc") + ECHO + b"0"),
        ended(AN_ORDER + b")\x81"),
        b"c__builtin__\nset\n(lR",
    ):
        with unchanged(), pytest.raises((NotAllowedError, pickle.UnpicklingError)):
            ALLOWED.load(ended(attack))
    holds = built(AN_ORDER, dict_of({"ship": named(HERE, "echo")}))
    function, _, _ = read(call_of(text("ship"), holds))
    assert function.__func__ is admitted.Order.ship
    slots = built(named(HERE, "Slots") + b")\x81", slot_state({"run": ECHO, "_other": ECHO}))
    for name in ("run", "other", "_other", "missing"):
        with pytest.raises(NotAllowedError, match="its class has no such method"):
            read(call_of(text(name), slots))


@pytest.mark.parametrize("state", ["__class__", "__dict__", "__setstate__", "__reduce_ex__"])
@pytest.mark.parametrize("kind", ["Order", "Slots", "Wrong"])
def test_no_special_attribute_is_set(state: str, kind: str) -> None:
    instance = named(HERE, kind) + b")\x81"
    for values in (slot_state({state: ORDER}), dict_of({state: ORDER})):
        with unchanged(), pytest.raises(NotAllowedError, match=f"'{state}' is not allowed by"):
            ALLOWED.load(ended(built(instance, values)))


@pytest.mark.parametrize(
    "name",
    ["__init__", "__reduce__", "__subclasses__", "__init_subclass__", "__class__", "__setattr__"],
)
def test_no_special_method_is_a_job(name: str) -> None:
    for payload in (
        call_of(text(name), AN_ORDER),
        call_of(text(name), ORDER),
        call_of(text(f"{HERE}.Order.{name}")),
    ):
        with pytest.raises(NotAllowedError, match="no special name is a job"):
            read(payload)
    with pytest.raises(NotAllowedError, match="no special name is a job"):
        read(call_of(text(f"{HERE}.__main__.f")))


def test_a_name_that_shows_the_pattern_another_text_is_refused() -> None:
    name = called(named(HERE, "Name"), text("other"))
    for payload in (call_of(name, AN_ORDER), call_of(name)):
        with pytest.raises(NotAllowedError, match="a name of type Name is not allowed by --allow"):
            read(payload)


@pytest.mark.parametrize(
    "attack",
    {
        "extension": b"\x82" + bytes([EXTENSION]),
        "extension 2": b"\x83" + EXTENSION.to_bytes(2, "little"),
        "extension 4": b"\x84" + EXTENSION.to_bytes(4, "little"),
        "instance": f"(i{HERE}\nOrder\n".encode(),
        "object": b"(" + ORDER + b"o",
        "persistent id": ECHO + b"0Pa\n",
        "binary persistent id": ECHO + b"Q",
        "buffer": ECHO + b"0\x97",
        "no opcode": ECHO + b"\xff",
    }.items(),
    ids=lambda attack: attack[0],
)
def test_what_our_own_pickles_never_hold_is_refused(attack: tuple[str, bytes]) -> None:
    with extension(), pytest.raises(NotAllowedError, match="extensions or old-style calls"):
        ALLOWED.load(ended(ECHO + attack[1]))


def test_an_extension_is_refused_though_an_earlier_pickle_has_used_it() -> None:
    with extension(), pytest.raises(NotAllowedError, match="extensions or old-style calls"):
        ALLOWED.load(ended(b"\x82" + bytes([EXTENSION])))


def test_a_bytearray_takes_no_more_room_than_its_bytes() -> None:
    huge = b"\x96" + (1 << 40).to_bytes(8, "little") + b"abc"
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        ALLOWED.load(ended(ECHO + b"0" + huge))


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "UTC/../../x"])
def test_a_time_zone_reads_no_other_file(key: str) -> None:
    maker = called(named("builtins", "getattr"), named("zoneinfo", "ZoneInfo"), text("_unpickle"))
    with pytest.raises(ValueError, match="ZoneInfo keys"):
        ALLOWED.load(ended(called(maker, text(key), b"K\x00")))


def test_what_jobs_are_made_of_is_read_as_ever() -> None:
    wrong = admitted.Wrong("no", 1)
    wrong.code = 5  # type: ignore[attr-defined]  # as any exception may have it
    listed, mapped, keeps = admitted.Listed([1, 2]), admitted.Mapped(a=1), admitted.Keeps()
    listed.head = mapped.head = "x"  # type: ignore[attr-defined]  # as above
    keeps.kept = 1  # type: ignore[attr-defined]  # as above
    slots = admitted.Slots()
    slots.run = 7
    value: Any = [admitted.Order(3, ["a"]), wrong, listed, mapped, keeps, slots, bytearray(b"x")]
    value += [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=ZoneInfo("UTC"))]
    value.append(value)
    for protocol in range(3, 6):
        got = ALLOWED.load(pickle.dumps(value, protocol))
        assert got[0] == value[0]
        assert (got[1].args, got[1].code) == (("no", 1), 5)
        assert (list(got[2]), got[2].head, dict(got[3]), got[3].head) == (
            [1, 2],
            "x",
            {"a": 1},
            "x",
        )
        assert (got[4].state, got[5].run, got[6]) == ({"kept": 1}, 7, bytearray(b"x"))
        assert got[7:9] == value[7:9]
        assert got[9] is got


def test_a_partial_is_called_where_its_type_and_its_call_are_allowed() -> None:
    payload = encode_call(partial(admitted.echo, 7), (), {})[1]
    with pytest.raises(NotAllowedError, match=r"functools\.partial is not allowed"):
        read(payload)
    for further in ("functools.partial", "functools.partial.__call__"):
        with pytest.raises(NotAllowedError, match=r"functools\.partial"):
            decode_call(payload, "pickle", Allowlist([f"{HERE}.*", further]))
    both = Allowlist([f"{HERE}.*", "functools.partial", "functools.partial.__call__"])
    assert decode_call(payload, "pickle", both)[0]() == 7


# -- made-up pickles


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A few bytes of a pickle can ask for gigabytes; here they are refused."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 256 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(time_limit_s(60))
@given(pickled_calls(PLAIN))
@fuzz(1000)
def test_no_made_up_pickle_reaches_anything_else(pickled: bytes) -> None:
    with extension():
        assert_reaches_nothing(pickled)


_WORKS = [
    pickle.dumps(("tests.admitted.echo", None, (admitted.Order(1), datetime(2026, 1, 2)), {})),  # noqa: DTZ001 - as plain as others
    pickle.dumps(("ship", admitted.Order(1), ("a",), {"b": admitted.Listed([1])})),
    pickle.dumps(("count", admitted.Order, (ZoneInfo("UTC"), admitted.Wrong(1)), {})),
    call_that_renames(Path("/nowhere/planted"), HERE),
]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(time_limit_s(60))
@given(st.sampled_from(_WORKS), st.data())
@fuzz(400)
def test_no_damaged_pickle_reaches_anything_else(pickled: bytes, data: st.DataObject) -> None:
    damaged = bytearray(pickled)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        other = data.draw(st.sampled_from(_WORKS))
        source = data.draw(st.integers(0, len(other) - 1))
        size = data.draw(st.integers(0, 12))
        damaged[at : at + data.draw(st.integers(0, 12))] = other[source : source + size]
        damaged = damaged or bytearray(b".")
    assert_reaches_nothing(bytes(damaged))


def test_the_check_itself_sees_what_is_reached() -> None:
    """A reader that keeps to nothing is found out in each way."""
    attacks = [
        called(named("tests.forbidden", "touch")),
        named("tests.forbidden", "touch"),
        built(ORDER, slot_state({"planted": b"K\x01"})),
        built(called(named(HERE, "find_order")), dict_of({"number": b"K\x07"})),
        called(named(HERE, "find_limits")) + text("a") + b"K\x01s",
        called(named(PATH.__module__, PATH.__name__), text("a")),
    ]
    for attack in attacks:
        with pytest.raises(AssertionError), restored():
            assert_reaches_nothing(ended(attack), lambda data: (pickle.loads(data), (), {}))


def assert_reaches_nothing(pickled: bytes, reader: Callable[[bytes], Any] = read) -> None:
    calls: list[str] = []

    def note(frame: Any, event: str, _argument: object) -> None:
        by = str(frame.f_back and frame.f_back.f_globals.get("__name__"))
        of = str(frame.f_globals.get("__name__"))
        is_readers = event == "call" and by.startswith(("rqd.", "pickle", __name__))
        if is_readers and not of.startswith(RUN_BY_READER):
            calls.append(f"{of}.{frame.f_code.co_name}")

    got: Any = None
    with unchanged():
        sys.setprofile(note)
        try:
            got = reader(pickled)
        except Exception:  # noqa: BLE001 - most are no pickles
            pass
        finally:
            sys.setprofile(None)
    assert not calls, (pickled, calls)
    if got is not None:
        check_admitted(got, set())


def check_admitted(value: Any, seen: set[int]) -> None:
    """Every value, to the bottom, is of an admitted type, and every callable is admitted."""
    kind, is_new = type(value), id(value) not in seen
    seen.add(id(value))
    if isinstance(value, type):
        assert value in ADMITTED_TYPES, value
    elif kind is FunctionType:
        assert any(value is one for one in [*OWN_FUNCTIONS, *METHODS]), value
    elif kind is MethodType:
        assert any(value.__func__ is one for one in METHODS), value
        check_admitted(value.__self__, seen)
    elif kind is BuiltinMethodType:
        check_admitted(value.__self__, seen)
    elif kind is MethodDescriptorType:
        assert any(issubclass(own, value.__objclass__) for own in OWN_CLASSES), value
    else:
        assert kind in ADMITTED_TYPES or kind is object, value
        inner = [getattr(value, name, None) for name in getattr(kind, "__slots__", ())]
        if kind not in PLAIN_TYPES:
            inner += getattr(value, "__dict__", {}).values()
        if issubclass(kind, dict):
            inner += [*value.keys(), *value.values()]
        elif issubclass(kind, list | tuple | set | frozenset):
            inner += value
        for one in inner if is_new else ():
            check_admitted(one, seen)


def standing() -> dict[str, Any]:
    """All that a pickle must leave as it is."""
    found: dict[str, Any] = {"canaries": list(forbidden.seen)}
    for kind in {*PLAIN_TYPES, *OWN_CLASSES, admitted.Makes, PATH, Path, forbidden.Forbidden}:
        found[f"{id(kind)}"] = kind.__module__, kind.__qualname__, kind.__bases__, dict(vars(kind))
    for one in (*OWN_FUNCTIONS, *METHODS, forbidden.touch):
        if isinstance(one, FunctionType):
            code = one.__code__, one.__defaults__, one.__kwdefaults__, one.__module__
            found[f"{id(one)}"] = code, one.__qualname__, dict(vars(one))
    for module in (admitted, forbidden, pickle, copyreg):
        found[f"{id(module)}"] = {k: v for k, v in vars(module).items() if k[:2] != "__"}
    found["data"] = dict(admitted.limits), dict(admitted.handlers), dict(vars(admitted.the_order))
    found["id"] = admitted.the_id.int
    found["members"] = {name: dict(vars(one)) for name, one in admitted.Colour.__members__.items()}
    return found


@contextmanager
def unchanged() -> Iterator[None]:
    before, modules = standing(), dict(sys.modules)
    yield
    assert standing() == before
    assert all(sys.modules.get(name) is module for name, module in modules.items())


@contextmanager
def restored() -> Iterator[None]:
    """For what is meant to do harm: puts back what it changed."""
    number, seen = admitted.the_order.number, list(forbidden.seen)
    try:
        yield
    finally:
        admitted.the_order.number, forbidden.seen[:] = number, seen
        admitted.limits.pop("a", None)
        if "planted" in vars(admitted.Order):
            del admitted.Order.planted  # type: ignore[attr-defined]  # see there


@contextmanager
def extension() -> Iterator[None]:
    """A canary's extension code, which this process has used already."""
    copyreg.add_extension("tests.forbidden", "touch", EXTENSION)
    try:
        assert pickle.loads(b"\x80\x02\x82" + bytes([EXTENSION]) + b".") is forbidden.touch
        yield
    finally:
        copyreg.remove_extension("tests.forbidden", "touch", EXTENSION)
        copyreg.clear_extension_cache()
