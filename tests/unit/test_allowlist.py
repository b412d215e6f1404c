"""With an allowlist a payload can name only what is on it, however it goes about that."""

import os
import pickle
from collections import Counter, OrderedDict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from rqd import Webhook
from rqd.model.allowlist import Allowlist
from rqd.model.call import decode_call
from rqd.model.errors import InvalidCallError, NotAllowedError
from tests import trusted
from tests.pickles import call_that_touches

ALLOWED = Allowlist(["tests.trusted.*"])


class Reduces:
    """A value whose pickle calls this."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def test_patterns_are_those_of_fnmatch_and_mind_case() -> None:
    allowed = Allowlist(["shop.tasks.*", "mail.send", "a.?[0-9]"])

    for name in ("shop.tasks.f", "shop.tasks.C.m", "mail.send", "a.b1"):
        allowed.check(name)
    for name in (
        "shop.tasks",
        "shop.tasksx.f",
        "Shop.tasks.f",
        "mail.sender",
        "xmail.send",
        "a.bc",
    ):
        with pytest.raises(NotAllowedError, match=f"{name} is not allowed by --allow"):
            allowed.check(name)


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            1,
            1.5,
            "a",
            b"b",
            bytearray(b"c"),
            1j,
            (1,),
            [1],
            {1: 2},
            {1},
            frozenset("a"),
        ),
        *(range(3), slice(1, 2), Counter("aa"), OrderedDict(a=1), deque([1])),
        *(date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC), timedelta(1), Decimal("1.5")),
        datetime(2026, 1, 2, tzinfo=ZoneInfo("UTC")),
        *(Fraction(1, 3), UUID(int=7), trusted.Order(7)),
        trusted.echo,
    ],
)
def test_plain_values_and_what_is_allowed_are_read(value: Any) -> None:
    assert ALLOWED.load(pickle.dumps(value, 5)) == value


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        *(os.system, eval, Colour.RED, trusted.half),
        Reduces(os.system, ("true",)),
        Reduces(getattr, (trusted.Order, "__init__")),
        Reduces(getattr, (ZoneInfo, "from_file")),
        [trusted.Order(1), {"deep": Reduces(eval, ("1",))}],
        trusted.Order(1).ship,
    ],
)
def test_no_other_value_is_read(value: Any) -> None:
    with pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        ALLOWED.load(pickle.dumps(value, 5))


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "os", "system", "Path", "Queue.all", "Any", "half.func"),
        *("echo.__globals__", "echo.__globals__.get", "echo.__builtins__.get"),
        *(
            "Order.__subclasses__",
            "Order.__dict__.get",
            "limits.update",
            "limits",
            "Order.count.__func__",
        ),
    ],
)
@pytest.mark.parametrize("protocol", ["text", "stack"])
def test_nothing_is_reached_through_an_allowed_module(name: str, protocol: str) -> None:
    by_text = f"ctests.trusted\n{name}\n.".encode()
    by_stack = b"\x80\x04\x8c\x0dtests.trusted\x8c" + bytes([len(name)]) + name.encode() + b"\x93."

    with pytest.raises((NotAllowedError, InvalidCallError)):
        ALLOWED.load({"text": by_text, "stack": by_stack}[protocol])


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "system", "Path", "Queue.all", "half.func", "echo.__globals__.get"),
        *("echo.__builtins__.get", "Order.__subclasses__", "Order.__dict__.get", "limits.update"),
    ],
)
def test_no_function_is_reached_through_an_allowed_module(name: str) -> None:
    payload = pickle.dumps((f"tests.trusted.{name}", None, (), {}))

    with pytest.raises(NotAllowedError, match=f"tests.trusted.{name} is not allowed by --allow"):
        decode_call(payload, "pickle", ALLOWED)


def test_a_planted_call_runs_nothing(tmp_path: Path) -> None:
    planted = tmp_path / "planted"

    with pytest.raises(NotAllowedError, match="is not allowed by --allow"):
        decode_call(call_that_touches("tests.trusted.echo", planted), "pickle", ALLOWED)
    assert not planted.exists()


def test_a_refused_module_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amodule.py").write_text(
        "from pathlib import Path\nPath(__file__ + '.ran').touch()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    call = pickle.dumps(("amodule.f", None, (), {}))

    for payload, serializer in (
        (call, "pickle"),
        (b"camodule\nf\n.", "pickle"),
        (call, "amodule.f"),
    ):
        with pytest.raises(NotAllowedError):
            decode_call(payload, serializer, ALLOWED)
    assert not (tmp_path / "amodule.py.ran").exists()


def test_the_webhooks_function_is_allowed_by_the_name_that_its_jobs_have() -> None:
    allowed = Allowlist([Webhook.SENDER])

    assert callable(allowed.find(Webhook.SENDER, None))
    with pytest.raises(NotAllowedError, match="is not allowed"):
        ALLOWED.find(Webhook.SENDER, None)
