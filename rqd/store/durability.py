"""An enqueue that waits for more copies: the script, and WAIT or WAITAOF behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from rqd.model.durability import Durability
from rqd.model.errors import ConfigurationError, InvalidCallError, NotDurableError, RqdError
from rqd.model.records import NewJob
from rqd.store.scripts import Script

# The time for an answer, besides the wait that was asked for.
_ROUND_TRIP_S = 0.25


def check_wait(durability: Durability, connection: redis.Redis, pipe: Any) -> None:
    """Raises InvalidCallError or ConfigurationError for an impossible wait."""
    if pipe is not None:
        raise InvalidCallError("wait_replicas and wait_aof can't go with a pipeline=")
    timeout_s = connection.connection_pool.connection_kwargs.get("socket_timeout")
    if timeout_s is not None and durability.timeout_s > timeout_s - _ROUND_TRIP_S:
        raise ConfigurationError(
            f"wait_timeout {durability.timeout_s:g}: the connection waits {timeout_s:g} s for"
            " an answer; write a URL with ?socket_timeout=, or a shorter time"
        )


def send_and_wait(
    connection: redis.Redis, script: Script, command: Sequence[Any], wait: Sequence[str | int]
) -> tuple[Any, Any]:
    """Returns the script's answer, and the answer of a WAIT sent with it on the same connection.

    WAIT is about its own connection. If both are sent again after a lost connection, the wait
    covers earlier writes, too.
    """
    for how in (("EVALSHA", script.sha), ("EVAL", script.source)):
        with connection.pipeline(transaction=False) as pipe:
            pipe.execute_command(*how, *command)
            pipe.execute_command(*wait)
            answer, reached = pipe.execute(raise_on_error=False)
        if isinstance(answer, NoScriptError):
            continue
        if isinstance(answer, Exception):
            raise answer
        return answer, reached
    raise RqdError("Redis forgets a script while it runs it")


def check_reached(durability: Durability, reached: Any, jobs: Sequence[NewJob]) -> None:
    """Raises NotDurableError if the wait's answer falls short of the wanted copies."""
    if isinstance(reached, ResponseError):
        lacks: str | None = str(reached)
        if "unknown command" in str(reached):
            lacks = "wait_aof needs Redis 7.2 or newer, or Valkey"
    else:
        lacks = durability.shortfall(reached)
    if lacks is not None:
        job_ids = tuple(job.id for job in jobs)
        shown = f"job {job_ids[0]} is" if len(job_ids) == 1 else f"{len(job_ids)} jobs are"
        raise NotDurableError(f"{shown} enqueued on the primary, but {lacks}", job_ids)
