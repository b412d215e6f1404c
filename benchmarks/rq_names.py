"""Imports for the tests of `rq_suite.py`, which copies this module beside them.

A name that rqd has not fails the tests that use it, and not all tests of its file. RQ's own helpers
for clocks and connections are given, as the tests set up with them. RQ's command is an object of
click's, which the tests call; rqd's is run as a program.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any


class _AbsentType(type):
    """Raises at each use of a name that is not there; a class statement may name it as a base."""

    why: str

    def __call__(cls, *_: object, **__: object) -> Any:
        raise ImportError(cls.why)

    def __getattr__(cls, name: str) -> Any:
        raise ImportError(cls.why)


def _connection_kwargs(connection: Any) -> dict[str, Any]:
    given = connection.connection_pool.connection_kwargs
    return {name: given[name] for name in ("host", "port", "db") if name in given}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


class _Command:
    """Runs `rqd` as a program for click's CliRunner, which takes a command of click's."""

    name = "rqd"

    def main(self, args: Sequence[str], **_: object) -> None:
        command = [sys.executable, "-m", "rqd", *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)


_GIVEN: Mapping[str, Any] = {
    "now": lambda: datetime.now(UTC),
    "current_timestamp": lambda: int(datetime.now(UTC).timestamp()),
    "as_text": lambda value: value.decode() if isinstance(value, bytes) else value,
    "get_version": lambda connection: _numbers(connection.info("server")["redis_version"]),
    "get_connection_kwargs": _connection_kwargs,
}


def names(module: str, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Returns what a module has under each name, by the name to give to it."""
    return {alias: _found(module, name) for alias, name in wanted.items()}


def _found(module: str, name: str) -> Any:
    if name in _GIVEN:
        return _GIVEN[name]
    if (module, name) == ("rqd.cli", "main"):
        return _Command()
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        return _AbsentType(name, (), {"why": f"{module}.{name}: {error}"})
