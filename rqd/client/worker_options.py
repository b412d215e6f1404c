"""Reads the arguments of workers' constructors; refuses RQ's arguments that rqd has no use for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.client.queue import Queue
from rqd.client.rq_compat import refuse_overrides
from rqd.model.call import import_function, name_function
from rqd.model.errors import ConfigurationError, InvalidCallError

# RQ's workers accept these, and ours do without: a job knows its serializer.
_WITHOUT_MEANING = frozenset(
    {
        *("serializer", "log_job_description", "maintenance_interval", "job_monitoring_interval"),
        *("default_worker_ttl", "worker_ttl", "prepare_for_work", "with_scheduler"),
        *("logging_level", "date_format", "log_format"),
    }
)
_INSTEAD = {
    "default_result_ttl": "write result_ttl= at the enqueue",
    "disable_default_exception_handler": (
        "leave it out: a failure is recorded whatever exception_handlers= say"
    ),
    "connection_class": "leave it out, and write connection=",
    "death_penalty_class": "leave it out: a time limit needs no class of its own",
    "redis_worker_namespace_prefix": "leave it out, and write use_redis(namespace=..)",
    "work_horse_killed_handler": "write on_failure=, called after a crash too, or read job.cause",
}
_OUR_CLASSES = ("rqd.Queue", "rqd.queue.Queue", "rqd.job.Job")
_PRECEDENCES = {"default": "strict", "round_robin": "round-robin", "random": "random"}
# RQ's workers call these methods of their own, so subclasses written for RQ override them.
_HOOKS = frozenset(
    {
        *("bootstrap", "check_for_suspension", "clean_registries", "cleanup_execution"),
        *("dequeue_job_and_maintain_ttl", "execute_job", "fork_work_horse", "get_heartbeat_ttl"),
        *("handle_exception", "handle_execution_ended", "handle_job_failure", "handle_job_retry"),
        *("handle_job_success", "handle_payload", "handle_warm_shutdown_request"),
        *("handle_work_horse_killed", "heartbeat", "kill_horse", "main_work_horse"),
        *("maintain_heartbeats", "monitor_work_horse", "perform_job", "prepare_execution"),
        *("prepare_job_execution", "register_birth", "register_death", "reorder_queues"),
        *("request_force_stop", "request_stop", "run_maintenance_tasks", "set_state"),
        *("setup_work_horse_signals", "should_run_maintenance_tasks", "teardown"),
        *("wait_for_horse",),
    }
)


def queues_given(
    queues: Queue | str | Iterable[Queue | str],
    connection: Connection,
    whose: str,
    queue_class: type[Queue] = Queue,
) -> tuple[Backend, list[Queue]]:
    """Returns a worker's Redis and queues. The Redis is the connection's, else the first queue's.

    Queues that are given by name are made as `queue_class`.

    Raises ConfigurationError without a queue.
    """
    given = [queues] if isinstance(queues, Queue | str) else list(queues)
    first = next((queue for queue in given if isinstance(queue, Queue)), None)
    backend = backend_for(connection if connection or not first else first.connection)
    if not given:
        raise ConfigurationError(f"{whose}([]): name at least one queue")
    return backend, [q if isinstance(q, Queue) else queue_class(q, backend) for q in given]


def queue_class_of(given: Any, default: type[Queue]) -> type[Queue]:
    """Returns a subclass of Queue that was given as itself or by name; the default for None.

    Raises ConfigurationError.
    """
    found = default if given is None else given
    if isinstance(found, str):
        try:
            found = import_function(found)
        except (InvalidCallError, ImportError):
            found = None
    if not (isinstance(found, type) and issubclass(found, Queue)):
        raise ConfigurationError(f"queue_class={given!r}: write a subclass of rqd.Queue")
    return found


def handlers_given(
    handlers: Callable[..., Any] | str | Iterable[Callable[..., Any] | str],
) -> list[Callable[..., Any] | str]:
    """Returns the exception handlers as a list; RQ accepts a single handler, too."""
    if isinstance(handlers, str) or callable(handlers):
        return [handlers]
    return list(handlers or ())


def name_in_module(function: Callable[..., Any] | str) -> str:
    """Returns the dotted name by which a daemon finds it.

    Raises InvalidCallError, ConfigurationError.
    """
    name, instance = name_function(function)
    if instance is not None:
        raise ConfigurationError(f"{function!r} is no function of a module: move it to a module")
    return name


def precedence_of(strategy: str) -> str:
    """Returns the `--precedence` for RQ's `dequeue_strategy`. Raises ConfigurationError."""
    if (found := _PRECEDENCES.get(strategy)) is None:
        raise ConfigurationError(f"dequeue_strategy {strategy!r}: write {', '.join(_PRECEDENCES)}")
    return found


def check_rqs(given: dict[str, Any]) -> None:
    """Raises ConfigurationError for unknown options, and for RQ's that rqd does otherwise."""
    for name in sorted(given.keys() - _WITHOUT_MEANING):
        if name not in _INSTEAD:
            raise ConfigurationError(f"{name}=: there is no such option")
        if not _says_nothing(given[name]):
            raise ConfigurationError(f"{name}=: {_INSTEAD[name]}")


def check_subclass(kind: type) -> None:
    """Raises ConfigurationError for a class with a method or attribute that only RQ would use."""
    for name, instead in _INSTEAD.items():
        if not _says_nothing(getattr(kind, name, None)):
            raise ConfigurationError(f"{kind.__name__}.{name} would never be read: {instead}")
    instead = (
        "the daemon runs the jobs, and no method of a worker: write middleware=, or"
        " exception_handlers="
    )
    refuse_overrides(kind, _HOOKS, instead)


def _says_nothing(given: Any) -> bool:
    """True for the values that RQ accepts as defaults, and for our own classes."""
    return any(given is one for one in (None, False, Queue, Job)) or given in _OUR_CLASSES


def say_why_it_returned(queues: Iterable[Queue]) -> None:
    """Writes to stderr that `work()` returns, unlike RQ's, for callers without `burst=True`.

    Not by a log, which a ported program may have silenced.
    """
    if sys.stderr is not None:
        names = ",".join(queue.name for queue in queues)
        sys.stderr.write(
            "rqd: work() returns when its queues are empty, unlike RQ's: for a worker that stays"
            f" run rqd start --queues {names}, or write work_forever(); burst=True ends this line\n"
        )
