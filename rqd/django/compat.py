"""django-rq's names, for a project that moves by its imports: `from rqd.django.compat import job`.

The settings are django-rq's: RQ_QUEUES, and of RQ its COMMIT_MODE and DEFAULT_RESULT_TTL. Of a
connection's settings it knows those that a URL of rqd can express.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.db import transaction

from rqd.client import decorators
from rqd.client.connection import Backend, Connection, backend_for
from rqd.client.job import Job
from rqd.client.options import PLAINLY, EnqueueData, Sending
from rqd.client.queue import Queue
from rqd.client.worker import Worker
from rqd.model.records import NewJob

__all__ = ["DjangoQueue", "enqueue", "get_connection", "get_queue", "get_worker", "job"]

COMMIT_MODES = ("on_db_commit", "auto", "request_finished")
_UNSUPPORTED = {
    "USE_REDIS_CACHE": "write URL or HOST",
    "SENTINEL_KWARGS": "write URL: redis+sentinel://..",
    "CONNECTION_KWARGS": "write URL with its settings behind a ?",
    "QUEUE_CLASS": "write queue_class= at get_queue",
}


def get_queue(
    name: str = "default",
    default_timeout: float | str | None = None,
    is_async: bool | None = None,
    *,
    commit_mode: str | None = None,
    connection: Connection = None,
    queue_class: Any = None,
    **options: Any,
) -> DjangoQueue:
    """Returns a queue of RQ_QUEUES. `options` are as for `rqd.Queue`.

    None leaves what the settings say. Raises ImproperlyConfigured.
    """
    config = _config(name)
    if default_timeout is None:
        default_timeout = config.get("DEFAULT_TIMEOUT")
    queue: DjangoQueue = (queue_class or DjangoQueue)(
        name,
        get_connection(name) if connection is None else connection,
        default_timeout,
        config.get("ASYNC", True) if is_async is None else is_async,
        serializer=options.pop("serializer", config.get("SERIALIZER")),
        **options,
    )
    queue.commit_mode = _commit_mode(commit_mode)
    queue.result_ttl = config.get("DEFAULT_RESULT_TTL", _rq().get("DEFAULT_RESULT_TTL"))
    return queue


def get_connection(name: str = "default") -> Backend:
    """Returns the Redis of a queue of RQ_QUEUES. Raises ImproperlyConfigured."""
    return backend_for(url_of(name))


def get_worker(*queue_names: str, **options: Any) -> Worker:
    """Returns a worker for these queues, `default` without any; `options` as for `rqd.Worker`."""
    options.setdefault("preload", ["rqd.django.preload"])
    options.setdefault("middleware", ["rqd.django.middleware.fresh_connections"])
    handlers = _rq().get("EXCEPTION_HANDLERS", getattr(settings, "RQ_EXCEPTION_HANDLERS", ()))
    options.setdefault("exception_handlers", handlers)
    return Worker([get_queue(name) for name in queue_names or ("default",)], **options)


def enqueue(func: Any, *args: Any, **kwargs: Any) -> Job[Any]:
    """Puts a call on the queue `default`, like `Queue.enqueue`."""
    return get_queue().enqueue(func, *args, **kwargs)


def job(
    func_or_queue: Callable[..., Any] | Queue | str = "default",
    connection: Connection = None,
    *args: Any,
    **options: Any,
) -> Any:
    """Gives a function `.delay(..)`: `@job`, `@job("high")`, `@job("high", timeout=3600)`."""
    function = func_or_queue if callable(func_or_queue) else None
    queue: Any = "default" if function is not None else func_or_queue
    if isinstance(queue, str) and queue in _queues():
        queue = get_queue(queue, connection=connection)
    decorate: Any = decorators.job(queue, connection, *args, **options)
    return decorate if function is None else decorate(function)


class DjangoQueue(Queue):
    """A queue that sends jobs when the database's transaction commits, or the request is over.

    Until then a job's handle has its id, and Redis does not know it.
    """

    commit_mode = "on_db_commit"
    result_ttl: float | str | None = None

    def drafts(
        self, datas: Iterable[EnqueueData], due_us: int | None = None, delay_us: int | None = None
    ) -> list[NewJob]:
        """Makes jobs as `Queue.drafts` does, with the settings' DEFAULT_RESULT_TTL."""
        return super().drafts([self._with_ttl(data) for data in datas], due_us, delay_us)

    def _with_ttl(self, data: EnqueueData) -> EnqueueData:
        if self.result_ttl is None or data.options.result_ttl is not None:
            return data
        return replace(data, options=replace(data.options, result_ttl=self.result_ttl))

    def _send(self, jobs: list[NewJob], sending: Sending) -> int | None:
        if sending is PLAINLY and self.is_async:
            send = partial(super()._send, jobs, sending)
            if self.commit_mode == "request_finished":
                _waiting.calls.append(send)
                return None
            if self.commit_mode == "on_db_commit" and transaction.get_connection().in_atomic_block:
                transaction.on_commit(send)
                return None
        return super()._send(jobs, sending)


class _Waiting(threading.local):
    """The enqueues of this thread that wait for the end of its request."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def send(self, **_: Any) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


_waiting = _Waiting()
request_finished.connect(_waiting.send, weak=False)


def url_of(name: str) -> str:
    """Returns the URL of a queue's Redis, with its login. Raises ImproperlyConfigured."""
    config = _config(name)
    for setting, instead in _UNSUPPORTED.items():
        if setting in config:
            raise ImproperlyConfigured(f"RQ_QUEUES[{name!r}]: rqd has no {setting}: {instead}")
    if "URL" in config:
        return _with_query(config["URL"], {"db": config.get("DB")} | _more(config))
    login = ""
    if config.get("PASSWORD"):
        user, password = config.get("USERNAME") or "", config["PASSWORD"]
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    if "UNIX_SOCKET_PATH" in config:
        query = {"db": config.get("DB")} | _more(config)
        return _with_query(f"unix://{login}{config['UNIX_SOCKET_PATH']}", query)
    if "SENTINELS" in config:
        hosts = ",".join(f"{host}:{port}" for host, port in config["SENTINELS"])
        url = f"redis+sentinel://{login}{hosts}/{config['MASTER_NAME']}"
        return _with_query(url, {"db": config.get("DB")} | _more(config))
    if "HOST" not in config:
        raise ImproperlyConfigured(f"RQ_QUEUES[{name!r}] names no Redis: write URL or HOST")
    scheme = "rediss" if config.get("SSL") else "redis"
    host = f"{config['HOST']}:{config.get('PORT', 6379)}"
    return _with_query(f"{scheme}://{login}{host}/{config.get('DB') or 0}", _more(config))


def _more(config: Mapping[str, Any]) -> dict[str, Any]:
    more = {
        "socket_timeout": config.get("SOCKET_TIMEOUT"),
        "ssl_cert_reqs": config.get("SSL_CERT_REQS"),
    }
    return more | dict(config.get("REDIS_CLIENT_KWARGS", {}))


def _with_query(url: str, query: Mapping[str, Any]) -> str:
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{url}{'&' if '?' in url else '?'}{given}" if given else url


def _config(name: str) -> Mapping[str, Any]:
    queues = _queues()
    if name not in queues:
        known = ", ".join(sorted(queues)) or "no queue"
        raise ImproperlyConfigured(f"RQ_QUEUES has no {name!r}: it has {known}")
    config: Mapping[str, Any] = queues[name]
    return config


def _commit_mode(asked: str | None) -> str:
    mode = asked or _rq().get("COMMIT_MODE") or COMMIT_MODES[0]
    if mode not in COMMIT_MODES:
        known = ", ".join(COMMIT_MODES)
        raise ImproperlyConfigured(f"COMMIT_MODE {mode!r}: write one of {known}")
    return mode


def _queues() -> Mapping[str, Any]:
    queues: Mapping[str, Any] = getattr(settings, "RQ_QUEUES", {})
    return queues


def _rq() -> Mapping[str, Any]:
    rq: Mapping[str, Any] = getattr(settings, "RQ", {})
    return rq
