"""Suggestions: commands, queues and jobs with a name near the name typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from rqd.client.snapshot import known_queues
from rqd.model.errors import RqdError
from rqd.model.names import check_job_id, is_job_id

if TYPE_CHECKING:
    from rqd.store.queries import Queries

# A suggestion is a courtesy: the search for it shall cost nobody more.
_LONGEST_S = 0.3
_MOST_OF_A_STATE = 1000
_MOST_SHOWN = 10
_TO_COME = ("started", "limited", "scheduled", "deferred")
_ENDED = ("failed", "finished", "canceled")


class NoSuchNameError(RqdError):
    """No queue, worker or master has the name that was typed."""


class AmbiguousIdError(NoSuchNameError):
    """The ids of several jobs begin, or may begin, with the text that was typed."""


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Returns `: did you mean high?`, or an empty text if no name is near."""
    near = difflib.get_close_matches(typed, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def no_such_queue(typed: str, known: Sequence[str]) -> NoSuchNameError:
    """Makes the error for a queue that never had a job."""
    hint = did_you_mean(typed, known) or (f": there are {', '.join(known)}" if known else "")
    return NoSuchNameError(f"no queue {typed!r}{hint}")


def queues_to_name(views: Queries) -> list[str]:
    """Returns the names of queues that ever had a job, are paused or have a master."""
    served = {name for row in views.masters() for name in row.get("queues", "").split(",")}
    return sorted({*known_queues(views, views.paused()), *served} - {""})


def check_queues(names: Iterable[str], views: Queries) -> None:
    """Raises NoSuchNameError unless each queue ever had a job, is paused or has a master."""
    known = queues_to_name(views)
    for name in names:
        if name not in known:
            raise no_such_queue(name, known)


def job_ids_from(beginning: str, views: Queries) -> tuple[list[str], bool]:
    """Returns ids with this beginning, and True if these are all such ids.

    Of each queue's states it looks at the next jobs to come, or the latest. It is sure only if no
    state of any queue has more jobs than that.
    """
    give_up_at = monotonic() + _LONGEST_S
    found: dict[str, None] = {}
    is_all = True
    for queue in views.queue_names():
        if monotonic() > give_up_at:
            return list(found), False
        last = _MOST_OF_A_STATE - 1
        listed = [views.ready_ids(queue, 0, _MOST_OF_A_STATE)]
        listed += [views.index_ids(queue, name, 0, last) for name in _TO_COME]
        listed += [views.latest_ended_ids(queue, name, last + 1) for name in _ENDED]
        is_all = is_all and all(len(ids) < _MOST_OF_A_STATE for ids in listed)
        meant = (one for ids in listed for one in ids if one.startswith(beginning))
        found.update(dict.fromkeys(filter(is_job_id, meant)))
    return list(found), is_all


def whole_id(typed: str, views: Queries, *, only_to_look: bool = False) -> str:
    """Returns the id that was typed if a job has it, else the only id with this beginning.

    Beyond the jobs looked at, another id may have the same beginning: good enough `only_to_look`.
    Raises NoSuchJobError, AmbiguousIdError, ConfigurationError for an invalid id.
    """
    from rqd.client.records import no_such_job  # noqa: PLC0415 - loads redis-py: healthcheck needs none

    if views.job(check_job_id(typed)) is not None:
        return typed
    found, is_all = job_ids_from(typed, views)
    if not found:
        raise no_such_job(typed)
    if len(found) > 1:
        shown = ", ".join(found[:_MOST_SHOWN])
        more = f", and {len(found) - _MOST_SHOWN:,} more" if len(found) > _MOST_SHOWN else ""
        count = f"{len(found):,}" if is_all else f"at least {len(found):,}"
        raise AmbiguousIdError(
            f"{count} jobs begin with {typed!r}: write more of the id: {shown}{more}"
        )
    if not is_all and not only_to_look:
        raise AmbiguousIdError(
            f"not all jobs were searched for {typed!r}: write the whole id, such as {found[0]}"
        )
    return found[0]
