"""What was meant: commands, queues and jobs of a name near the one that was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

import click

from rqd.model.errors import RqdError
from rqd.store.keys import ALL_QUEUES

if TYPE_CHECKING:
    from rqd.store.views import Views

# Looking for what was meant is a courtesy: it shall cost nobody more.
_LONGEST_S = 0.3
_MOST_OF_A_QUEUE = 50


class NoSuchNameError(RqdError):
    """There is no queue, worker or master of the name that was typed."""


class NearGroup(click.Group):
    """A group that says which command was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with. Raises UsageError, which says what is near."""
        name = args[0]
        is_option = name.startswith("-")
        if not is_option and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            meant = self.meant(name, args[1:]) or did_you_mean(name, self.list_commands(ctx))
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def meant(self, name: str, rest: list[str]) -> str:  # noqa: ARG002 - for who knows other names
        """What to type instead, for names of other programs'; nothing if it is none of them."""
        return ""


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """`: did you mean high?`, or nothing if none is near."""
    near = difflib.get_close_matches(typed, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def known_queues(views: Views, paused: Iterable[str]) -> list[str]:
    """Queues that ever had a job, and those that are paused before their first one, by name."""
    return sorted({*views.queue_names(), *paused} - {ALL_QUEUES})


def no_such_queue(typed: str, known: Sequence[str]) -> NoSuchNameError:
    """The error for a queue that never had a job."""
    told = did_you_mean(typed, known) or (f": there are {', '.join(known)}" if known else "")
    return NoSuchNameError(f"no queue {typed!r}{told}")


def check_queues(names: Iterable[str], views: Views) -> None:
    """Raises NoSuchNameError unless each of these queues ever had a job, is paused, or is served
    by a master.
    """
    known = known_queues(views, views.paused())
    served = [name for row in views.masters() for name in row.get("queues", "").split(",")]
    for name in names:
        if name not in known and name not in served:
            raise no_such_queue(name, sorted({*known, *served} - {""}))


def job_ids_from(beginning: str, views: Views) -> list[str]:
    """Ids of jobs that begin so: of each queue's states the next to come, or the latest."""
    give_up_at = monotonic() + _LONGEST_S
    found: dict[str, None] = {}
    for queue in views.queue_names():
        if monotonic() > give_up_at:
            break
        last = _MOST_OF_A_QUEUE - 1
        ids = views.ready_ids(queue, 0, _MOST_OF_A_QUEUE)
        for index in ("started", "limited", "scheduled", "deferred"):
            ids += views.index_ids(queue, index, 0, last)
        for index in ("failed", "finished", "canceled"):
            ids += views.index_ids(queue, index, 0, last, desc=True)
        found.update(dict.fromkeys(one for one in ids if one.startswith(beginning)))
    return list(found)


def near_job(typed: str, views: Views) -> str:
    """`: did you mean 7f3c09aa-..?`: the ids of tables are cut to their first characters."""
    found = job_ids_from(typed, views) if typed else []
    if not found:
        return ""
    return f": did you mean {found[0]}?" if len(found) == 1 else f": {len(found)} begin so"
