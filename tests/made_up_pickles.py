"""Made-up pickles of calls: most of their steps are what a reader takes, and some are attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from tests import admitted
from tests.pickles import called, named, text, tuple_of

T = TypeVar("T")
Ways = list[Callable[[int], bytes]]

EXTENSION = 0x71  # of a canary
HERE = admitted.__name__
_PATH = type(Path()).__module__

_CLASSES = ["Order", "Slots", "Keeps", "Listed", "Mapped", "Wrong", "Adds", "Made", "Name"]
_FUNCTIONS = [name for name in vars(admitted) if name.startswith("find_")] + ["echo", "total"]
_HOSTILE_NAMES = [
    *[(HERE, name) for name in ("os", "os.getcwd", "touch", "forbidden.touch", "Makes", "limits")],
    *[(HERE, name) for name in ("Order.__init__", "echo.__globals__", "the_order", "limits.pop")],
    *[("tests.forbidden", name) for name in ("touch", "Forbidden", "seen.append")],
    *[("builtins", name) for name in ("getattr", "vars", "type", "object", "globals", "list")],
    *[(_PATH, name) for name in ("PosixPath", "PurePosixPath", "Path")],
    *[("functools", "partial"), ("operator", "attrgetter"), ("copyreg", "_reconstructor")],
    *[("types", "SimpleNamespace"), ("tests", "admitted"), ("tests", "admitted.echo")],
]
_SPECIAL = [
    *("__module__", "__qualname__", "__class__", "__dict__", "__code__", "__defaults__"),
    *("__setstate__", "__new__", "__init__", "__globals__", "__wrapped__", "__bases__"),
    *("__iter__", "__hash__", "__reduce_ex__", "__getattr__", "__slots__"),
]
_KEYS = [
    *("number", "notes", "ship", "run", "_other", "other", "state", "int", "args", "head"),
    *("extend", "append", "update", "add", "keys", "_value_", "name", "is_safe", "count"),
]
_TEXTS = ["tests", "admitted", HERE, "UTC", "touch", "a", "1", "../../etc/passwd"]
_SIMPLE = [b"N", b"\x88", b"K\x01", b"K\x00", b")", b"}", b"]", b"\x8f", b"C\x01a"]
_METHODS = ["ship", "count", "append", "extend", "pop", "run", "other", "__call__", "upper"]
_MAKER = called(named("builtins", "getattr"), named("zoneinfo", "ZoneInfo"), text("_unpickle"))


def pickled_calls(plain: dict[str, list[str]]) -> st.SearchStrategy[bytes]:
    """Payloads whose parts are made in any way that a pickle knows.

    Drawn from a seed: what hypothesis draws by itself varies too little in so many choices.
    """
    return st.integers(0, 2**64).map(lambda seed: _Maker(Random(seed), plain).call())


class _Maker:
    """Makes the steps of one pickle; `plain` are the types that need no pattern, by module."""

    def __init__(self, random: Random, plain: dict[str, list[str]]) -> None:
        self._random = random
        self._plain = [(home, name) for home in plain for name in plain[home]]

    def call(self) -> bytes:
        name = self._one_of([text(one) for one in _METHODS])
        ways: Ways = [self.instance, self.changed, self.changed, self.name]
        instance = self._one_of(ways)(2)
        if self._rarely():
            name = self._one_of([text(f"{HERE}.{self._one_of(_FUNCTIONS)}"), self.value(1)])
            instance = self._one_of([b"N", instance])
        args = [self.value(2) for _ in range(self._number(0, 2))]
        protocol = self._one_of([b"\x80\x05", b"\x80\x04", b"\x80\x02", b""])
        return protocol + tuple_of(name, instance, tuple_of(*args), b"}") + b"."

    def value(self, deep: int) -> bytes:
        if deep <= 0:
            return self._one_of([self.simple(), self.simple(), self.name()])
        if self._rarely():
            return self.attack(deep - 1)
        ways: Ways = [self.simple, self.name, self.instance, self.changed, self.changed]
        return self._one_of(ways)(deep - 1)

    def simple(self, _deep: int = 0) -> bytes:
        return self._one_of([*_SIMPLE, *map(text, _TEXTS)])

    def name(self, _deep: int = 0) -> bytes:
        own = self._one_of([*_CLASSES, *_FUNCTIONS, "Order.ship", "Order.count", "Colour"])
        module, name = self._one_of([(HERE, own), (HERE, own), self._one_of(self._plain)])
        return self._one_of([named(module, name), f"c{module}\n{name}\n".encode()])

    def instance(self, deep: int) -> bytes:
        kind = named(HERE, self._one_of(_CLASSES))
        function = named(
            HERE, self._one_of(["echo", "total", "find_order", "find_id", "find_limits"])
        )
        home, plain = self._one_of(self._plain)
        return self._one_of(
            [
                kind + b")\x81",
                kind + b")}\x92",
                called(kind, self.value(deep)),
                called(named(HERE, "Colour"), b"K\x01"),
                called(function),
                called(function, self.value(deep)),
                called(_MAKER, text("UTC"), self._one_of([b"K\x00", b"K\x01"])),
                called(named(home, plain), *[self.value(deep) for _ in range(self._number(0, 2))]),
                named("uuid", "UUID") + b")\x81",
                self._one_of([b"]", b"}", b"\x8f", b"\x96\x01" + bytes(8)]),
            ]
        )

    def changed(self, deep: int) -> bytes:
        ways: Ways = [self.state, self.state, self.items]
        changes = [self._one_of(ways)(deep) for _ in range(self._number(1, 2))]
        return self.instance(deep) + b"".join(changes)

    def state(self, deep: int) -> bytes:
        attributes = b"}(" + self._pairs(deep) + b"u"
        forms = [attributes, b"N" + attributes + b"\x86", attributes * 2 + b"\x86"]
        return self._one_of([*forms, self.value(deep)]) + b"b"

    def items(self, deep: int) -> bytes:
        values = b"".join(self.value(deep) for _ in range(self._number(0, 2)))
        return self._one_of(
            [
                self.value(deep) + b"a",
                b"(" + values + b"e",
                text(self._key()) + self.value(deep) + b"s",
                b"(" + self._pairs(deep) + b"u",
                b"(" + values + b"\x90",
                b"q\x01" + self.value(deep) + b"0",
                b"2" + self._one_of([b"0", self.state(deep) + b"0"]),
                b"\x940h\x00",
            ]
        )

    def attack(self, deep: int) -> bytes:
        module, name = self._one_of(_HOSTILE_NAMES)
        hostile = self._one_of([named(module, name), f"c{module}\n{name}\n".encode()])
        value = self.value(deep)
        return self._one_of(
            [
                hostile,
                called(hostile, value),
                called(named(HERE, self._one_of(_FUNCTIONS))),
                called(value, value),
                value + value + b"R",
                value + tuple_of(value) + b"\x81",
                self.name() + self.state(deep),
                hostile + self.state(deep),
                self.name() + self.items(deep),
                called(named("builtins", "getattr"), self.name(), text(self._key())),
                b"(" + self.name() + value + b"o",
                b"(" + value + f"i{module}\n{name}\n".encode(),
                self._one_of([b"\x82q", b"\x83q\x00", b"\x84q\x00\x00\x00"]),
                value + b"Q",
                b"Pa\n",
                b"\x97",
                value + b"\x98",
            ]
        )

    def _pairs(self, deep: int) -> bytes:
        return b"".join(text(self._key()) + self.value(deep) for _ in range(self._number(1, 2)))

    def _key(self) -> str:
        return self._one_of(_SPECIAL if self._rarely() else _KEYS)

    def _rarely(self) -> bool:
        return self._number(0, 9) == 9

    def _number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def _one_of(self, options: Sequence[T]) -> T:
        return self._random.choice(options)
