"""Checks once, at a master's start, whether the server is fit for rqd."""

from __future__ import annotations

import re

import redis

from rqd.model.errors import ServerUnavailableError

# For SMISMEMBER, and the other commands of the scripts.
OLDEST = (6, 2)


def check_server(connection: redis.Redis) -> list[str]:
    """Returns warnings for the operator, in one round trip.

    Raises ServerUnavailableError for a server that is too old. A server that denies the question
    (an ACL without INFO) gets no warning.
    """
    with connection.pipeline(transaction=False) as pipe:
        pipe.info("server")
        pipe.info("memory")
        server, memory = pipe.execute(raise_on_error=False)
    for answer in (server, memory):
        if isinstance(answer, redis.exceptions.NoPermissionError):
            return []
        if isinstance(answer, Exception):
            raise answer
    _check_version(server)
    return _memory_warnings(memory)


def _check_version(server: dict[str, object]) -> None:
    version = str(server.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ServerUnavailableError(
            f"Redis {version} is too old: rqd needs {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey"
        )


def _memory_warnings(memory: dict[str, object]) -> list[str]:
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return []
    when = "when maxmemory is reached" if memory.get("maxmemory") else "once maxmemory is set"
    warning = f"Redis drops keys, and jobs with them, {when}: its maxmemory-policy is {policy}"
    return [f"{warning}; set it to noeviction"]
