"""What `manage.py check --deploy` finds: tasks without signatures, and queues nobody serves.

They ask Redis, and so belong to a deployment: Django runs its other checks before most commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core import checks

from rqd.django.backend import RqdBackend
from rqd.django.framework import task_backends
from rqd.model.errors import RqdError
from rqd.store.connection import prompt_connection, translate_errors
from rqd.store.queries import Queries
from rqd.store.store import Store


def rqd_backends() -> list[RqdBackend]:
    """Returns the backends of rqd among those of TASKS."""
    return [one for one in task_backends.all() if isinstance(one, RqdBackend)]


def check_keys(**_: Any) -> Iterable[checks.CheckMessage]:
    """Warns of each backend whose tasks nobody signs."""
    for one in rqd_backends():
        try:
            is_signed = one.backend.keyring is not None
        except RqdError:
            continue  # the backend's own check names the mistake
        if not is_signed:
            yield checks.Warning(
                f"TASKS[{one.alias!r}]: tasks are not signed, so whoever writes to Redis can run"
                " any function of the project",
                hint="set RQD_SIGNING_KEY_FILE here and for the daemon: docs/security.md",
                id="rqd.W001",
            )


def check_daemons(**_: Any) -> Iterable[checks.CheckMessage]:
    """Warns of queues in TASKS that no daemon serves, and of a Redis that is away."""
    for one in rqd_backends():
        try:
            there = one.backend
            store = Store(prompt_connection(there.url), there.namespace)
            with translate_errors(there.url):
                masters = Queries(store).masters()
        except RqdError as error:
            yield checks.Warning(f"TASKS[{one.alias!r}]: {error}", id="rqd.W002")
            continue
        served = {queue for row in masters for queue in row.get("queues", "").split(",")}
        for queue in sorted(one.queues - served):
            yield checks.Warning(
                f"TASKS[{one.alias!r}]: no daemon serves the queue {queue}",
                hint="start one: manage.py rqd start",
                id="rqd.W003",
            )
