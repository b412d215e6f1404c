"""`Worker` and `WorkerPool` run the daemon, `SimpleWorker` runs jobs here: RQ's constructors."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from rqd.client.connection import Backend, Connection
from rqd.client.job import Job
from rqd.client.producer import job_class_of
from rqd.client.queue import Queue
from rqd.client.run_inline import inline_master
from rqd.client.worker_info import LiveWorker, WorkerStatus, live_workers
from rqd.client.worker_options import (
    check_rqs,
    check_subclass,
    handlers_given,
    name_in_module,
    precedence_of,
    queue_class_of,
    queues_given,
    say_why_it_returned,
)
from rqd.daemon.foreground import run_in_foreground
from rqd.model.errors import ConfigurationError, MasterExistsError, RqdError
from rqd.store.signing_keys import KEY_VARIABLE


class DequeueStrategy(StrEnum):
    """RQ's words for `dequeue_strategy`."""

    DEFAULT = "default"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"


# The kernel limits an argument to 128 KiB.
_MOST_HINTS = 1000
# The highest number of `logging` at which `--log-level` shows all that was asked for.
_LEVELS = ((10, "debug"), (20, "info"), (30, "warning"))


class Worker:
    """Works on queues, in order of precedence; `workers` jobs at a time.

    `preload` names modules to import once, before the first job. `exception_handlers` (RQ's) and
    `middleware` are functions of modules, or their dotted names: see docs/middleware.md.
    """

    # The class of its queues that are given by name, and of the jobs that it returns.
    queue_class: type[Queue] = Queue
    job_class: type[Job[Any]] = Job
    _strategy = "default"

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        name: str | None = None,
        connection: Connection = None,
        workers: int = 1,
        preload: Iterable[str] = (),
        exception_handlers: Callable[..., Any] | str | Iterable[Callable[..., Any] | str] = (),
        middleware: Iterable[Callable[..., Any] | str] = (),
        **rqs: Any,
    ) -> None:
        """`rqs` are RQ's other options that have no meaning here. Raises ConfigurationError."""
        self.queue_class = queue_class_of(rqs.pop("queue_class", None), self.queue_class)
        self.job_class = job_class_of(rqs.pop("job_class", None) or self.job_class)
        check_rqs(rqs)
        self._backend, self.queues = queues_given(queues, connection, "Worker", self.queue_class)
        self.name = name
        self.workers = workers
        self.preload = list(preload)
        handlers = handlers_given(exception_handlers)
        self._own = [("--exception-handler", name_in_module(handler)) for handler in handlers]
        self._own += [("--middleware", name_in_module(layer)) for layer in middleware or ()]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_subclass(cls)
        cls.queue_class = queue_class_of(cls.queue_class, Queue)
        cls.job_class = job_class_of(cls.job_class)

    @property
    def connection(self) -> Backend:
        """The Redis and namespace whose queues it works on."""
        return self._backend

    @classmethod
    def all(
        cls,
        connection: Connection = None,
        job_class: Any = None,
        queue_class: Any = None,
        queue: Queue | str | None = None,
    ) -> list[LiveWorker]:
        """Returns the workers of all live masters; with `queue`, only of masters that serve it."""
        job_class_of(job_class or Job)
        queue_class_of(queue_class, Queue)
        name = queue.name if isinstance(queue, Queue) else queue
        given = queue.connection if isinstance(queue, Queue) and connection is None else connection
        return live_workers(given, name)

    @classmethod
    def count(cls, connection: Connection = None, queue: Queue | str | None = None) -> int:
        """Returns the number of workers that `all` finds."""
        return len(cls.all(connection, queue=queue))

    def queue_names(self) -> list[str]:
        """Returns the names of its queues."""
        return [queue.name for queue in self.queues]

    def __eq__(self, other: object) -> bool:
        is_named = isinstance(other, Worker) and self.name is not None
        return self is other or (is_named and self.name == getattr(other, "name", None))

    def __hash__(self) -> int:
        return hash(self.name) if self.name is not None else super().__hash__()

    @property
    def state(self) -> str:
        """The state of its daemon's first worker, asked of Redis now: see `get_state`."""
        return self.get_state()

    def get_state(self) -> str:
        """Returns starting, idle or busy; starting while it does not work, or has no name."""
        found = self._live()
        return found[0].state if found else WorkerStatus.STARTED

    def get_current_job_id(self) -> str | None:
        """Returns the id of a job that its daemon runs now; None without a job, or without a name.

        A `Worker` without `name=` gets its name at its start: look among `Worker.all()`.
        """
        return next(filter(None, (one.get_current_job_id() for one in self._live())), None)

    def get_current_job(self) -> Job[Any] | None:
        """Returns the job of `get_current_job_id`, as an instance of its `job_class`."""
        job_id = self.get_current_job_id()
        return self.job_class.fetch_many([job_id], self._backend)[0] if job_id else None

    def refresh(self) -> None:
        """Does nothing: `state` and the current job are asked of Redis at each look (RQ's name)."""

    def _live(self) -> list[LiveWorker]:
        if self.name is None:
            return []
        found = live_workers(self._backend)
        return [one for one in found if one.name.rpartition(":")[0] == self.name]

    def work(
        self,
        burst: bool | None = None,
        logging_level: str | int | None = None,
        date_format: str | None = None,  # noqa: ARG002 - RQ's, as its place among the arguments is
        log_format: str | None = None,  # noqa: ARG002 - as date_format
        max_jobs: int | None = None,
        max_idle_time: float | None = None,
        with_scheduler: bool = False,  # noqa: ARG002 - as date_format
        dequeue_strategy: str | None = None,
    ) -> bool:
        """Runs the queues' jobs and returns when they are empty; RQ's `work()` does not return.

        Says so on standard error, unless `burst` is True; with `burst=False` it works on. Returns
        earlier after `max_jobs`, or when nothing has run for `max_idle_time` seconds; None for no
        limit. `dequeue_strategy` is default (the order in which the queues stand), round_robin or
        random. `logging_level` is a name or a number of `logging`'s; None leaves the settings'.
        `with_scheduler`, `date_format` and `log_format` mean nothing: every daemon starts scheduled
        jobs at their time, and has its own log. Returns True if the daemon ended well. Raises
        RqdError if it could not start, ConfigurationError.
        """
        extra = ["--burst"] if burst is None or burst else []
        if max_jobs is not None:
            extra += ["--max-jobs", str(max_jobs)]
        if max_idle_time is not None:
            extra += ["--max-idle", str(max_idle_time)]
        if logging_level is not None:
            extra += ["--log-level", _level_of(logging_level)]
        has_ended_well = self._run(extra, dequeue_strategy)
        if burst is None and has_ended_well:
            say_why_it_returned(self.queues)
        return has_ended_well

    def work_forever(self, dequeue_strategy: str | None = None) -> bool:
        """Works until Ctrl-C, SIGTERM or `rqd stop`. Returns True if the daemon ended well.

        `dequeue_strategy` is as for `work`. Raises RqdError if it could not start.
        """
        return self._run([], dequeue_strategy)

    def _run(self, extra: list[str], dequeue_strategy: str | None) -> bool:
        strategy = self._strategy if dequeue_strategy is None else dequeue_strategy
        extra = ["--precedence", precedence_of(strategy), *extra]
        arguments = ["--queues", ",".join(self.queue_names()), "--workers", str(self.workers)]
        arguments += ["--namespace", self._backend.namespace, *extra]
        for module in self.preload:
            arguments += ["--preload", module]
        if hints := _modules_of_application():
            arguments += ["--preload-hint", ",".join(hints)]
        for option in self._own:
            arguments += option
        if self.name:
            arguments += ["--name", self.name]
        # The folder of the caller's script comes first on its path, and has its modules.
        for entry in sys.path:
            if os.path.isdir(entry or "."):
                arguments += ["--path", entry or "."]
        # In the environment and not among the arguments, which every user of the machine can read.
        secrets = {"RQD_URL": self._backend.url}
        if self._backend.keyring is not None:
            secrets[KEY_VARIABLE] = ",".join(self._backend.keyring.secrets)
        status = run_in_foreground(arguments, secrets)
        if status in (64, 69, 78):
            raise RqdError(f"the worker could not start, status {status}: its log says why")
        return status == 0


def _modules_of_application() -> list[str]:
    """Returns the application's modules that this process has imported, in the order of import.

    Modules in Python's own folders are left out. A worker of RQ forks with the application's
    modules, so its jobs find them there.
    """
    libraries = tuple(
        os.path.join(os.path.realpath(folder), "") for folder in sysconfig.get_paths().values()
    )
    found = []
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] in ("__main__", "rqd"):
            continue
        is_named = all(part.isidentifier() for part in name.split("."))
        if is_named and not os.path.realpath(file).startswith(libraries):
            found.append(name)
    return found[:_MOST_HINTS]


def _level_of(level: str | int) -> str:
    """Returns the value of `--log-level` for a level of `logging`. Raises ConfigurationError."""
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise ConfigurationError(f"logging_level {level!r}: write debug, info, warning or error")
    at_most = [name for least, name in _LEVELS if number <= least]
    return at_most[0] if at_most else "error"


class RoundRobinWorker(Worker):
    """A Worker that takes jobs from its queues in turn (RQ's name)."""

    _strategy = "round_robin"


class RandomWorker(Worker):
    """A Worker that takes jobs from its queues at random (RQ's name)."""

    _strategy = "random"


class SimpleWorker:
    """Works on queues in this process, a job after the other (RQ's SimpleWorker).

    A job that crashes takes this process with it; a timeout is raised in jobs of the main thread.
    """

    # The class of its queues that are given by name, and of the jobs that it returns.
    queue_class: type[Queue] = Queue
    job_class: type[Job[Any]] = Job

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
        self.queue_class = queue_class_of(rqs.pop("queue_class", None), self.queue_class)
        self.job_class = job_class_of(rqs.pop("job_class", None) or self.job_class)
        check_rqs(rqs)
        self._backend, self.queues = queues_given(
            queues, connection, "SimpleWorker", self.queue_class
        )
        self.name = name
        handlers = handlers_given(exception_handlers)
        self._own = {
            "exception_handlers": tuple(map(name_in_module, handlers)),
            "middleware": tuple(map(name_in_module, middleware or ())),
        }

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_subclass(cls)
        cls.queue_class = queue_class_of(cls.queue_class, Queue)
        cls.job_class = job_class_of(cls.job_class)

    @property
    def connection(self) -> Backend:
        """The Redis and namespace whose queues it works on."""
        return self._backend

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
        with inline_master(self._backend, names, name=self.name, **settings) as master:
            if not master.register():
                raise MasterExistsError(f"a worker named {master.name!r} is alive")
            while (max_jobs is None or done < max_jobs) and master.run_next(names):
                done += 1
        if burst is None and done != max_jobs:
            say_why_it_returned(self.queues)
        return done > 0


class WorkerPool:
    """Works on queues, `num_workers` jobs at a time: `Worker(.., workers=..)` under RQ's name."""

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        connection: Connection = None,
        num_workers: int = 1,
        worker_class: type[Worker | SimpleWorker] = Worker,
        exception_handlers: Callable[..., Any] | str | Iterable[Callable[..., Any] | str] = (),
        **rqs: Any,
    ) -> None:
        """With `worker_class=SimpleWorker` (RQ's) it makes a Worker, whose jobs are forked, too.

        `rqs` are as for `Worker`. Raises ConfigurationError for another class, and as `Worker`.
        """
        if not (isinstance(worker_class, type) and issubclass(worker_class, Worker | SimpleWorker)):
            raise ConfigurationError(f"worker_class={worker_class!r}: write rqd.Worker")
        kind = worker_class if issubclass(worker_class, Worker) else Worker
        self._worker = kind(
            queues,
            connection=connection,
            workers=num_workers,
            exception_handlers=exception_handlers,
            **rqs,
        )
        self.queues = self._worker.queues
        self.connection = self._worker.connection
        self.exception_handlers = exception_handlers
        self.num_workers = num_workers

    def start(self, burst: bool = False, logging_level: str | int | None = None) -> None:
        """Works until Ctrl-C, SIGTERM or `rqd stop`; with `burst`, until the queues are empty.

        `logging_level` is as for `Worker.work`. Raises RqdError if it could not start.
        """
        self._worker.work(burst, logging_level)
