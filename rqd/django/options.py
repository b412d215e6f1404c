"""The OPTIONS of a backend in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from rqd.client.connection import Backend, backend_for, own_keyring
from rqd.client.options import job_options, template_of
from rqd.django.tasks import RQD_OPTIONS
from rqd.model.errors import ConfigurationError, RqdError
from rqd.model.retry import Retry
from rqd.store.urls import default_namespace, default_url, read_url

_COMMIT = ("on_commit", "now")
# A unique key belongs to one task, so all tasks can't share a default.
_DEFAULTS = RQD_OPTIONS - {"unique"}


@dataclass(frozen=True, slots=True)
class Options:
    """The OPTIONS of a backend.

    `url` and `namespace` None are RQD_URL and RQD_NAMESPACE. `commit` is "on_commit", to enqueue
    when the transaction commits, or "now". `defaults` are options of a RqdTask, for all tasks.
    """

    url: str | None = None
    namespace: str | None = None
    commit: str = "on_commit"
    defaults: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, alias: str, given: Mapping[str, Any]) -> Options:
        """Reads OPTIONS. Raises ImproperlyConfigured for a name that does not exist."""
        own = {one.name for one in fields(cls)} - {"defaults"}
        if unknown := given.keys() - own - _DEFAULTS:
            known = ", ".join(sorted(own | _DEFAULTS))
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]: OPTIONS has no {min(unknown)!r}: write one of {known}"
            )
        defaults = {name: given[name] for name in _DEFAULTS & given.keys()}
        return cls(**{name: given[name] for name in own & given.keys()}, defaults=defaults)

    @property
    def waits_for_commit(self) -> bool:
        """True if an enqueue in a transaction waits for its commit."""
        return self.commit != "now"

    @property
    def is_awaitable(self) -> bool:
        """True if `rqd.aio` can talk to the server: Sentinel and Cluster need a thread."""
        there = self.backend()
        try:
            return there.awaiting is not None
        except ConfigurationError:
            return False

    def backend(self) -> Backend:
        """Returns the namespace in Redis. Raises ConfigurationError for a bad URL or key."""
        if self.url is None and self.namespace is None:
            return backend_for(None)  # in a job, the daemon's
        return _open(self.url or default_url(), self.namespace or default_namespace())

    def check(self) -> list[checks.CheckMessage]:
        """Returns the values that no enqueue can use, as Django's errors."""
        errors = []
        if self.commit not in _COMMIT:
            errors.append(f"OPTIONS: commit={self.commit!r}: write 'on_commit' or 'now'")
        try:
            self.backend()
            retry = self.defaults.get("retry")
            named = self.defaults | ({"retry": Retry(retry)} if isinstance(retry, int) else {})
            check_options(named)
        except RqdError as error:
            errors.append(f"OPTIONS: {error}")
        return [checks.Error(f"TASKS: {error}", id="rqd.E001") for error in errors]


def check_options(named: dict[str, Any]) -> None:
    """Raises InvalidCallError or ConfigurationError for options that no enqueue can use."""
    template_of(job_options(None, named), "default", "json", -1)


@cache
def _open(url: str, namespace: str) -> Backend:
    read_url(url)  # raises here for a bad URL, not at its first use
    return Backend(None, url, own_keyring(), namespace)
