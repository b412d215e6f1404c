"""What was meant: commands, queues and jobs of a name near the one that was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from rqd.model.errors import RqdError

if TYPE_CHECKING:
    from rqd.store.views import Views

# Looking for what was meant is a courtesy: it shall cost nobody more.
_LONGEST_S = 0.3
_MOST_OF_A_QUEUE = 50


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """`: did you mean high?`, or nothing if none is near."""
    near = difflib.get_close_matches(typed, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def no_such_queue(typed: str, known: Sequence[str]) -> RqdError:
    """The error for a queue that never had a job."""
    told = did_you_mean(typed, known) or (f": there are {', '.join(known)}" if known else "")
    return RqdError(f"no queue {typed!r}{told}")


def check_queues(names: Iterable[str], views: Views) -> None:
    """Raises RqdError unless each of these queues ever had a job, or a master serves it."""
    known = views.queue_names()
    served = [name for row in views.masters() for name in row.get("queues", "").split(",")]
    for name in names:
        if name not in known and name not in served:
            raise no_such_queue(name, sorted({*known, *served} - {""}))


def job_ids_from(beginning: str, views: Views) -> list[str]:
    """Ids of jobs that begin so, of those that run, failed lately or wait first; not of all."""
    give_up_at = monotonic() + _LONGEST_S
    found: dict[str, None] = {}
    for queue in views.queue_names():
        if monotonic() > give_up_at:
            break
        last = _MOST_OF_A_QUEUE - 1
        ids = views.index_ids(queue, "started", 0, last)
        ids += views.index_ids(queue, "failed", 0, last, desc=True)
        ids += views.ready_ids(queue, 0, _MOST_OF_A_QUEUE)
        ids += views.index_ids(queue, "finished", 0, last, desc=True)
        found.update(dict.fromkeys(one for one in ids if one.startswith(beginning)))
    return list(found)


def near_job(typed: str, views: Views) -> str:
    """`: did you mean 7f3c09aa-..?`: the ids of tables are cut to their first characters."""
    found = job_ids_from(typed, views) if typed else []
    if not found:
        return ""
    return f": did you mean {found[0]}?" if len(found) == 1 else f": {len(found)} begin so"
