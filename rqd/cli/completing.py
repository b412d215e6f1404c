"""Names for the shell to complete: queues and jobs, asked of Redis if it answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from rqd.cli.suggest import job_ids_from
from rqd.model.filter import CAUSES, INDEX_OF_STATE, OTHER_CAUSE, WORDS
from rqd.model.names import is_job_id
from rqd.store.connection import RedisError, hasty_connection
from rqd.store.queries import Queries
from rqd.store.store import Store
from rqd.store.urls import default_namespace, default_url

T = TypeVar("T")


def complete_queues(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a queue's name; in a list with commas, the last name."""
    before, comma, last = typed.rpartition(",")

    def find(views: Queries) -> list[str]:
        return [f"{before}{comma}{name}" for name in views.queue_names() if name.startswith(last)]

    return _items(context, find)


def complete_crons(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a cron entry's name."""

    def find(views: Queries) -> list[str]:
        return [name for name in views.cron_names() if name.startswith(typed)]

    return _items(context, find)


def complete_masters(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a master's name."""
    return _of_masters(context, "name", typed)


def complete_hosts(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes the host of a master."""
    return _of_masters(context, "host", typed)


def _of_masters(context: click.Context, part: str, typed: str) -> list[CompletionItem]:
    def find(views: Queries) -> list[str]:
        values = {row.get(part, "") for row in views.masters()}
        return sorted(value for value in values if value.startswith(typed))

    return _items(context, find)


def complete_jobs(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a job's id, as far as jobs are found at once."""
    return _items(context, lambda views: job_ids_from(typed, views)[0])


def complete_words(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a word of a filter, such as `state:failed`.

    bash breaks its words at colons: there the name and the colon are words of their own.
    """
    typed_before: tuple[str, ...] = context.params.get("words") or ()
    if typed == ":":
        typed_before, typed = (*typed_before, ":"), ""
    name = typed_before[-2] if typed_before[-1:] == (":",) and len(typed_before) > 1 else ""

    def find(views: Queries) -> list[str]:
        if name:
            return [one for one in _values(name, views) if one.startswith(typed)]
        words = (f"{word}:{value}" for word in WORDS for value in _values(word, views))
        return [one for one in words if one.startswith(typed)]

    return _items(context, find)


def _values(word: str, views: Queries) -> Iterable[str]:
    """Returns values for a word of a filter, as far as a few can be named."""
    if word == "queue":
        return views.queue_names()
    if word == "host":
        return sorted({row.get("host", "") for row in views.masters()} - {""})
    return {"state": tuple(INDEX_OF_STATE), "cause": (*CAUSES, OTHER_CAUSE)}.get(word, ())


def complete_jobs_or_words(
    context: click.Context, parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a job's id, or a word of a filter."""
    words = complete_words(context, parameter, typed)
    return words if words else complete_jobs(context, parameter, typed)


def is_job(job_id: str) -> bool:
    """True if Redis says at once that a job has this id."""
    return is_job_id(job_id) and _ask_at_once({}, lambda views: views.job(job_id)) is not None


def _items(
    context: click.Context, find: Callable[[Queries], Iterable[str]]
) -> list[CompletionItem]:
    """Returns the names that `find` returns, as items for the shell; none without an answer."""
    names = _ask_at_once(context.params, find) or ()
    # A name of control characters would steer the terminal that it is completed on.
    return [CompletionItem(name) for name in names if name.isprintable()]


def _ask_at_once(params: Mapping[str, Any], ask: Callable[[Queries], T]) -> T | None:
    """Returns the result of `ask`; None on an error, or if Redis is slow: somebody is typing."""
    namespace = params.get("namespace") or default_namespace()
    try:
        store = Store(hasty_connection(params.get("url") or default_url()), namespace)
        return ask(Queries(store))
    except (RedisError, OSError, ValueError):
        return None
