"""A signed command is obeyed by the master it is for, as it was signed, once and soon."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from rqd.daemon.config import Config
from rqd.daemon.control.authentication import MOST_REMEMBERED, WINDOW_S, Authentication
from rqd.model.signing import Addressee, Keyring, sign_command

KEYS = Keyring(["a-key-of-enough-characters"])
OTHERS = Keyring(["a-key-that-nobody-else-has"])
NOW_US = 1_796_000_000_000_000
US = Addressee("rqd", "alpha", "boot1")
SCALE = {"id": "r1", "do": "scale", "to": 4, "answer": True, "by": 0.1}


def of_alpha(keyring: Keyring | None = KEYS, *, insists: bool = True) -> Authentication:
    config = Config("redis://h", keyring=keyring, require_signed=insists)
    instance: Any = SimpleNamespace(name="alpha", boot="boot1")
    return Authentication(config, instance)


def signed(to: Addressee = US, keyring: Keyring = KEYS, **more: Any) -> dict[str, Any]:
    """The command as it comes out of Redis."""
    told = sign_command({**SCALE, **more}, keyring, to, NOW_US)
    read: dict[str, Any] = json.loads(json.dumps(told))
    return read


def test_a_signed_command_is_obeyed_and_a_replay_is_not() -> None:
    ours = of_alpha()
    assert ours.admit(signed(), NOW_US) == ""
    assert ours.admit(signed(), NOW_US) == "it was carried out before: send a new command"
    assert ours.admit(signed(id="r2"), NOW_US) == ""


@pytest.mark.parametrize(
    "to",
    [
        Addressee("other", "alpha", "boot1"),
        Addressee("rqd", "beta", "boot1"),
        Addressee("rqd", "alpha", "boot0"),
    ],
    ids=["namespace", "master", "boot"],
)
def test_a_command_for_another_master_is_refused(to: Addressee) -> None:
    assert of_alpha().admit(signed(to), NOW_US).startswith("its signature is wrong")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "r2"},
        {"do": "stop"},
        {"to": 1000},
        {"to": 4.0},
        {"answer": False},
        {"signed_at": NOW_US + 1},
        {"more": 1},
        {"signature": f"{KEYS.key_ids[0]}:00"},
        {"signature": "\ud800"},
        {"signature": 7},
        {"signature": None},
    ],
    ids=str,
)
def test_nothing_of_a_signed_command_can_be_changed(change: dict[str, Any]) -> None:
    for insists in (True, False):
        told = of_alpha(insists=insists).admit(signed() | change, NOW_US)
        assert told.startswith("its signature is wrong")


def test_a_command_that_is_too_deep_to_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert of_alpha().admit({**signed(), "to": deep}, NOW_US).startswith("its signature is wrong")
    while deep:
        deep = deep.pop()


@pytest.mark.parametrize("seconds", [WINDOW_S + 1, -WINDOW_S - 1])
def test_a_command_that_was_not_signed_just_now_is_refused(seconds: int) -> None:
    assert "not signed within 60 s" in of_alpha().admit(signed(), NOW_US + seconds * 1_000_000)


def test_a_replay_is_refused_whatever_the_clock_says_and_however_many_came_since() -> None:
    ours = of_alpha()
    first = later = signed()
    assert ours.admit(first, NOW_US) == ""
    for number in range(MOST_REMEMBERED + 5):
        later = sign_command(SCALE | {"id": f"s{number}"}, KEYS, US, NOW_US + 1 + number)
        assert ours.admit(later, NOW_US) == ""
        assert ours.admit(first, NOW_US) == "it was carried out before: send a new command"
    assert ours.admit(later, NOW_US) == "it was carried out before: send a new command"
    assert len(ours._obeyed) == MOST_REMEMBERED


def test_what_is_unsigned_is_as_with_jobs() -> None:
    assert of_alpha(None, insists=False).admit(SCALE, NOW_US) == ""
    assert of_alpha(insists=False).admit(SCALE, NOW_US) == ""
    assert of_alpha().admit(SCALE, NOW_US).startswith("it is not signed: set RQD_SIGNING_KEY")
    key = OTHERS.key_ids[0]
    for insists in (True, False):
        told = of_alpha(insists=insists).admit(signed(keyring=OTHERS), NOW_US)
        assert told == f"it is signed with key {key}, which this daemon lacks"
    assert of_alpha(None, insists=False).admit(signed(), NOW_US) == ""


def test_a_signature_of_something_else_is_none_of_a_command() -> None:
    told = signed()
    facts = (b"rqd", b"alpha", b"boot1")
    body = {name: value for name, value in told.items() if name != "signature"}
    data = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    told["signature"] = KEYS.sign(b"rqd job v1", facts, data)
    assert of_alpha().admit(told, NOW_US).startswith("its signature is wrong")
