"""Commands to masters, signed: each for one master, from its start to its end, and for a minute.

The signature binds the parsed command, as JSON in one form: what is verified is what is obeyed.
This module is imported only where there is a key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rqd.model.signing import Keyring, Verdict

COMMAND = b"rqd command v1"
_SIGNATURE, _SIGNED_AT = "signature", "signed_at"


@dataclass(frozen=True, slots=True)
class Addressee:
    """The one master that a command is for: `boot` tells it from those that had its name before."""

    namespace: str
    master: str
    boot: str


def sign_command(
    command: Mapping[str, Any], keyring: Keyring, to: Addressee, now_us: int
) -> dict[str, Any]:
    """Returns the command with the time, by Redis' clock, and the signature."""
    dated = {**command, _SIGNED_AT: now_us}
    return {**dated, _SIGNATURE: keyring.sign(COMMAND, _facts(to), _body(dated))}


def is_signed(command: Mapping[str, Any]) -> bool:
    """True if the command has something for a signature."""
    return _SIGNATURE in command


def verify_command(command: Mapping[str, Any], keyring: Keyring, by: Addressee) -> Verdict:
    """Returns whether one of the keys signed this command for this master."""
    signature = command.get(_SIGNATURE)
    if not isinstance(signature, str):
        return Verdict.WRONG
    told = {name: value for name, value in command.items() if name != _SIGNATURE}
    try:
        body = _body(told)
    except RecursionError:  # nested as deep as can be read, and not as can be written
        return Verdict.WRONG
    return keyring.verify(signature, COMMAND, _facts(by), body)


def signed_at_us(command: Mapping[str, Any]) -> int:
    """The time of a command whose signature is good; 0 if it has none."""
    told = command.get(_SIGNED_AT)
    return told if type(told) is int else 0


def _facts(to: Addressee) -> tuple[bytes, ...]:
    # A master's row may hold anything, such as half a surrogate pair.
    return tuple(text.encode(errors="replace") for text in (to.namespace, to.master, to.boot))


def _body(command: Mapping[str, Any]) -> bytes:
    return json.dumps(command, sort_keys=True, separators=(",", ":")).encode()
