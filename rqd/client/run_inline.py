"""Runs jobs in the caller's own process: `SimpleWorker`, and `Queue(is_async=False)`.

Everything goes to Redis and comes from there, serialized, as with a daemon; only nothing is forked.
The user's classes reach the daemon's code from here, from `worker.py` and from `testing.py` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rqd.client.connection import Backend, Connection, backend_for, using
from rqd.client.job import Job
from rqd.client.queue import Queue
from rqd.client.rq_compat import refuse_overrides
from rqd.model.call import name_function
from rqd.model.errors import ConfigurationError, MasterExistsError

if TYPE_CHECKING:
    from rqd.daemon.inline import InlineMaster


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
    "job_class": "write functions of a job instead of methods",
    "queue_class": "leave it out: a worker uses only the names of its queues",
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
    queues: Queue | str | Iterable[Queue | str], connection: Connection, whose: str
) -> tuple[Backend, list[Queue]]:
    """Returns a worker's Redis and queues. The Redis is the connection's, else the first queue's.

    Raises ConfigurationError without a queue.
    """
    given = [queues] if isinstance(queues, Queue | str) else list(queues)
    first = next((queue for queue in given if isinstance(queue, Queue)), None)
    backend = backend_for(connection if connection or not first else first.connection)
    if not given:
        raise ConfigurationError(f"{whose}([]): name at least one queue")
    return backend, [q if isinstance(q, Queue) else Queue(q, backend) for q in given]


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


class SimpleWorker:
    """Works on queues in this process, a job after the other (RQ's SimpleWorker).

    A job that crashes takes this process with it; a timeout is raised in jobs of the main thread.
    """

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        name: str | None = None,
        connection: Connection = None,
        exception_handlers: Callable[..., Any] | str | Iterable[Callable[..., Any] | str] = (),
        middleware: Iterable[Callable[..., Any] | str] = (),
        **rqs: Any,
    ) -> None:
        """`rqs` are RQ's other options that have no meaning here. Raises ConfigurationError."""
        check_rqs(rqs)
        self._backend, self.queues = queues_given(queues, connection, "SimpleWorker")
        self.name = name
        handlers = handlers_given(exception_handlers)
        self._own = {
            "exception_handlers": tuple(map(name_in_module, handlers)),
            "middleware": tuple(map(name_in_module, middleware or ())),
        }

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_subclass(cls)

    def queue_names(self) -> list[str]:
        """The names of its queues."""
        return [queue.name for queue in self.queues]

    def work(
        self,
        burst: bool | None = None,
        logging_level: str | int | None = None,  # noqa: ARG002 - RQ's, in RQ's order
        date_format: str | None = None,  # noqa: ARG002 - RQ's
        log_format: str | None = None,  # noqa: ARG002 - RQ's
        max_jobs: int | None = None,
        max_idle_time: float | None = None,  # noqa: ARG002 - RQ's; it is never idle
        with_scheduler: bool = False,  # noqa: ARG002 - RQ's
        dequeue_strategy: str = "default",
    ) -> bool:
        """Runs the queues' jobs until they are empty; returns True if it ran any.

        `max_jobs` limits their number, None for no limit. `dequeue_strategy` is as for
        `Worker.work`; the other arguments are RQ's and mean nothing here. Says on standard error
        that it returns, unless `burst` is True or `max_jobs` was reached. Raises
        ConfigurationError for `burst=False`: write `Worker(..).work_forever()` or run `rqd start`.
        Raises MasterExistsError if a worker of this name is alive.
        """
        if burst is not None and not burst:
            raise ConfigurationError(
                "SimpleWorker works until its queues are empty: for more write Worker(..), or run"
                " rqd start"
            )
        names, done = self.queue_names(), 0
        settings: dict[str, Any] = {**self._own, "precedence": precedence_of(dequeue_strategy)}
        with _master(self._backend, names, name=self.name, **settings) as master:
            if not master.register():
                raise MasterExistsError(f"a worker named {master.name!r} is alive")
            while (max_jobs is None or done < max_jobs) and master.run_next(names):
                done += 1
        if burst is None and done != max_jobs:
            say_why_it_returned(self.queues)
        return done > 0


def run_now(backend: Backend, queue: str, job_ids: Iterable[str]) -> None:
    """Runs the ready jobs among these here, with the callbacks that their ends make.

    Runs a job again that is retried without a delay.
    """
    with _master(backend, [queue], is_of_thread=True) as master:
        for job_id in job_ids:
            while master.run_job(job_id):
                pass
            record = backend.views.job(job_id)
            for made in record.callbacks.split() if record is not None else ():
                while master.run_job(made):
                    pass


@contextmanager
def _master(
    backend: Backend, queues: Iterable[str], is_of_thread: bool = False, **settings: Any
) -> Iterator[InlineMaster]:
    # Late: programs that only enqueue have no use for the daemon's modules.
    from rqd.daemon.config import Config  # noqa: PLC0415 - see above
    from rqd.daemon.inline import InlineMaster  # noqa: PLC0415 - see above

    config = Config(
        backend.url, backend.namespace, tuple(queues), 1, keyring=backend.keyring, **settings
    )
    make = InlineMaster.of_thread if is_of_thread else InlineMaster
    master = make(backend.store, config)
    try:
        with using(backend):
            yield master
    finally:
        master.leave()
