"""Signs jobs and commands, and verifies their signatures."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, NoReturn

from rqd.model.errors import ConfigurationError

# The domain of a signature. A new meaning of the facts gets a new number.
JOB = b"rqd job v1"
RESULT = b"rqd result v1"
META = b"rqd meta v1"

_SHORTEST_CHARS, _LONGEST_CHARS, _MOST_KEYS = 16, 1024, 16
_KEY_ID_CHARS = 8


class Verdict(StrEnum):
    """The result of a signature's verification."""

    GOOD = "good"
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown key"
    WRONG = "wrong"


class Keyring:
    """A list of secret keys: the first signs, all verify.

    Raises ConfigurationError for an unfit key: under 16 characters, with white space or commas.
    """

    __slots__ = ("_macs", "_secrets", "key_ids")

    def __init__(self, secrets: Sequence[str]) -> None:
        if isinstance(secrets, str):
            raise ConfigurationError("signing_keys is one string: write a list of keys")
        self._secrets = tuple(dict.fromkeys(map(_check_secret, secrets)))
        if not 1 <= len(self._secrets) <= _MOST_KEYS:
            raise ConfigurationError(
                f"there are {len(self._secrets)} signing keys: give 1 to {_MOST_KEYS}"
            )
        # A copy of a begun HMAC costs a fraction of a new one.
        self._macs = {
            key_id(secret): hmac.new(secret.encode(), digestmod=sha256) for secret in self._secrets
        }
        self.key_ids = tuple(self._macs)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys themselves, to pass them on to another process."""
        return self._secrets

    def sign(self, domain: bytes, facts: Iterable[bytes], body: bytes) -> str:
        """Returns `key id:digest`, in hexadecimal digits."""
        signer = self.key_ids[0]
        return f"{signer}:{self._digest(signer, domain, facts, body)}"

    def verify(self, signature: str, domain: bytes, facts: Iterable[bytes], body: bytes) -> Verdict:
        """Returns whether any of the keys signed this; compares in constant time."""
        if not signature:
            return Verdict.UNSIGNED
        signer, _, digest = signature.partition(":")
        if signer not in self._macs:
            return Verdict.UNKNOWN_KEY if _is_key_id(signer) else Verdict.WRONG
        expected = self._digest(signer, domain, facts, body).encode()
        given = digest.encode(errors="replace")
        return Verdict.GOOD if hmac.compare_digest(expected, given) else Verdict.WRONG

    def _digest(self, signer: str, domain: bytes, facts: Iterable[bytes], body: bytes) -> str:
        mac = self._macs[signer].copy()
        parts: list[bytes] = []
        for part in (domain, signer.encode(), *facts):
            parts += (len(part).to_bytes(8, "big"), part)
        parts.append(len(body).to_bytes(8, "big"))
        mac.update(b"".join(parts))
        mac.update(body)  # by itself: it may be large, and needs no copy
        return mac.hexdigest()

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.key_ids)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is not pickled: it holds secrets")


def result_facts(
    namespace: bytes, job_id: bytes, token: bytes, serializer: bytes
) -> tuple[bytes, ...]:
    """Returns the facts of a result's signature: they bind it to its job and attempt."""
    return namespace, job_id, token, serializer


def key_id(secret: str) -> str:
    """Returns a key's public name: the first eight hexadecimal digits of its SHA-256."""
    return sha256(secret.encode()).hexdigest()[:_KEY_ID_CHARS]


def _check_secret(secret: str) -> str:
    # Never the key itself in an error: it would end up in a log.
    if not isinstance(secret, str) or not secret.isascii() or not secret.isprintable():
        raise ConfigurationError("a signing key has characters that are not printable ASCII")
    if " " in secret or "," in secret:
        raise ConfigurationError("a signing key has a space or a comma in it")
    if not _SHORTEST_CHARS <= len(secret) <= _LONGEST_CHARS:
        raise ConfigurationError(
            f"a signing key has {len(secret)} characters: give {_SHORTEST_CHARS} to"
            f" {_LONGEST_CHARS:,} (openssl rand -hex 32 makes one)"
        )
    return secret


def _is_key_id(text: str) -> bool:
    return len(text) == _KEY_ID_CHARS and all(digit in "0123456789abcdef" for digit in text)


COMMAND = b"rqd command v1"
_SIGNATURE, _SIGNED_AT = "signature", "signed_at"


@dataclass(frozen=True, slots=True)
class Addressee:
    """The master that a command is for: `boot` rules out earlier masters of its name."""

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
    """True if the command has a signature field."""
    return _SIGNATURE in command


def verify_command(command: Mapping[str, Any], keyring: Keyring, by: Addressee) -> Verdict:
    """Returns whether any of the keys signed this command for this master."""
    signature = command.get(_SIGNATURE)
    if not isinstance(signature, str):
        return Verdict.WRONG
    bare = {name: value for name, value in command.items() if name != _SIGNATURE}
    try:
        body = _body(bare)
    except RecursionError:  # nested as deep as can be read, and not as can be written
        return Verdict.WRONG
    return keyring.verify(signature, COMMAND, _facts(by), body)


def signed_at_us(command: Mapping[str, Any]) -> int:
    """Returns the time of a command whose signature is good; 0 if it has none."""
    at_us = command.get(_SIGNED_AT)
    return at_us if type(at_us) is int else 0


def _facts(to: Addressee) -> tuple[bytes, ...]:
    # A master's row may hold anything, such as half a surrogate pair.
    return tuple(text.encode(errors="replace") for text in (to.namespace, to.master, to.boot))


def _body(command: Mapping[str, Any]) -> bytes:
    return json.dumps(command, sort_keys=True, separators=(",", ":")).encode()
