"""Names for the shell to complete: queues and jobs, asked of Redis if it answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from rqd.cli.suggest import job_ids_from
from rqd.store.connection import RedisError, hasty_connection
from rqd.store.queries import Queries
from rqd.store.store import Store
from rqd.store.urls import default_namespace, default_url


def complete_queues(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a queue's name; in a list with commas, the last name."""
    before, comma, last = typed.rpartition(",")

    def look(views: Queries) -> list[str]:
        return [f"{before}{comma}{name}" for name in views.queue_names() if name.startswith(last)]

    return _asked(context, look)


def complete_crons(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a cron entry's name."""

    def look(views: Queries) -> list[str]:
        return [name for name in views.cron_names() if name.startswith(typed)]

    return _asked(context, look)


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
    def look(views: Queries) -> list[str]:
        found = {row.get(part, "") for row in views.masters()}
        return sorted(one for one in found if one.startswith(typed))

    return _asked(context, look)


def complete_jobs(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes a job's id, as far as jobs are found at once."""
    return _asked(context, lambda views: job_ids_from(typed, views)[0])


def _asked(context: click.Context, look: Callable[[Queries], list[str]]) -> list[CompletionItem]:
    """Returns the names that `look` finds; none on an error, as somebody is typing."""
    given: dict[str, Any] = context.params
    namespace = given.get("namespace") or default_namespace()
    try:
        store = Store(hasty_connection(given.get("url") or default_url()), namespace)
        # A name of control characters would steer the terminal that it is completed on.
        return [CompletionItem(name) for name in look(Queries(store)) if name.isprintable()]
    except (RedisError, OSError, ValueError):
        return []
