"""Tokens of the HTTP API: a file names each with its hash, its queues and its functions."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rqd.model.errors import ConfigurationError
from rqd.web.access import is_covered

RIGHTS = ("enqueue", "read", "cancel")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_KEYS = {"sha256", "queues", "functions", "may"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its text: its name, the SHA-256 of its text in hex, and its scope.

    `queues` and `functions` are patterns in the manner of fnmatch: `billing-*`, `shop.tasks.*`.
    `may` are some of RIGHTS.
    """

    name: str
    sha256: str
    queues: tuple[str, ...]
    functions: tuple[str, ...]
    may: frozenset[str] = frozenset(RIGHTS)

    def covers(self, queue: str, function: str) -> bool:
        """True if jobs of this function in this queue are in its scope."""
        return is_covered(queue, self.queues) and is_covered(function, self.functions)


class Tokens:
    """The tokens that are accepted."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def find(self, text: str) -> Token | None:
        """Returns the token of this text; None if there is none."""
        given, found = _sha256(text), None
        for one in self._tokens:
            # All are compared: the time shall not tell which was nearly right.
            if hmac.compare_digest(given, one.sha256):
                found = one
        return found

    @classmethod
    def read(cls, path: str | Path) -> Tokens:
        """Reads a file in TOML, with a table a token: `[NAME]`, sha256, queues, functions, may.

        `may` is all rights if it is left out. Raises ConfigurationError, also for a file that
        other users may write.
        """
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                tables = tomllib.load(file)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"API tokens {path}: cannot be read: {error}") from error
        if mode & _WRITABLE_BY_OTHERS:
            raise ConfigurationError(
                f"API tokens {path}: other users may write the file: chmod 600 {path}"
            )
        if not tables:
            raise ConfigurationError(
                f"API tokens {path}: the file has no token: `rqd api-token NAME` makes one"
            )
        return cls(_read(f"API tokens {path}: [{name}]", name, one) for name, one in tables.items())


def new_token(
    name: str, queues: Sequence[str], functions: Sequence[str], may: Sequence[str] = RIGHTS
) -> tuple[str, str]:
    """Makes a token; returns its text, and the table for the file. Raises ConfigurationError."""
    text = f"rqd_{secrets.token_urlsafe(32)}"
    fields = {"sha256": _sha256(text), "queues": queues, "functions": functions, "may": may}
    lines = [f"{key} = {_toml(value)}" for key, value in fields.items()]
    _read(f"token {name!r}", name, tomllib.loads("\n".join(lines)))
    return text, "\n".join([f"[{name}]", *lines, ""])


def _read(where: str, name: str, table: Any) -> Token:
    if not _NAME.match(name):
        raise ConfigurationError(f"{where}: a name has letters, digits, - and _, 64 at most")
    if not isinstance(table, dict) or table.keys() - _KEYS:
        raise ConfigurationError(f"{where}: write {', '.join(sorted(_KEYS))}, and nothing else")
    sha256 = table.get("sha256")
    if not isinstance(sha256, str) or not _HASH.match(sha256):
        raise ConfigurationError(f"{where}: sha256 is no SHA-256 in lower-case hex")
    may = frozenset(_texts(where, "may", table.get("may", list(RIGHTS))))
    if unknown := may - set(RIGHTS):
        raise ConfigurationError(f"{where}: may: {min(unknown)!r} is none of {', '.join(RIGHTS)}")
    queues = _texts(where, "queues", table.get("queues"))
    return Token(name, sha256, queues, _texts(where, "functions", table.get("functions")), may)


def _texts(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and value and all(isinstance(one, str) for one in value)):
        raise ConfigurationError(f'{where}: {key}: write a list of texts, such as ["*"]')
    return tuple(value)


def _toml(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        if not escaped.isprintable():
            raise ConfigurationError(f"{value!r}: write printable characters")
        return f'"{escaped}"'
    return f"[{', '.join(map(_toml, value))}]"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
