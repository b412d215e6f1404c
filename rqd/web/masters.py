"""The actions of operators on masters and cron entries. Each returns its result in a few words."""

from __future__ import annotations

import re
import time
from typing import Any

from rqd.client.cron import CronJob, fetch
from rqd.client.masters import (
    Reply,
    Row,
    as_of_now,
    ask_masters,
    is_reloading,
    reload_reply,
    tell,
)
from rqd.web.frame import BadRequestError, Look, NotHereError, action
from rqd.web.pages import last_line

_RELOAD_WITHIN_S, _POLL_S = 10.0, 0.1
_MOST_NAMES_CHARS = 50_000


@action("reload", "master")
def reload(look: Look) -> str:
    """Makes masters load the application's code again; waits some seconds for the outcome."""
    rows = _masters(look)
    request, sent = tell(look.backend, rows, "reload")
    replies = [Reply(name, "", {"error": why}) for name, why in sent.refused.items()]
    left = {row["name"]: row for row in rows if row["name"] in sent.reached}
    give_up_at = time.monotonic() + _RELOAD_WITHIN_S
    while left and time.monotonic() < give_up_at:
        found = as_of_now(look.backend, list(left.values()))
        for name in sorted(left):
            if name not in found or not is_reloading(found[name], request):
                replies.append(reload_reply(name, "", found.get(name)))
                del left[name]
        if left:
            time.sleep(_POLL_S)  # a boot ends when it ends; a dead master's row just expires
    said = [f"{one.master}: {_of_reload(one)}" for one in replies]
    still = "still loads the code; its row here shows the outcome"
    return "\n".join(said + [f"{name}: {still}" for name in sorted(left)])


@action("pause-master", "master")
def pause_master(look: Look) -> str:
    """Pauses masters: they start no more jobs, and their running jobs go on."""
    return _ask(look, "pause", now=False)


@action("resume-master", "master")
def resume_master(look: Look) -> str:
    """Resumes paused masters."""
    return _ask(look, "resume")


@action("scale", "master")
def scale(look: Look) -> str:
    """Changes the number of workers to `workers`: 4, or by a change, +2 or -1."""
    typed = look.param("workers").strip()
    if not re.fullmatch(r"[+-]?\d{1,6}", typed, re.ASCII) or not int(typed):
        raise BadRequestError(f"scale to {typed!r}: write 4, +2 or -1")
    return _ask(look, "scale", **{"by" if typed[0] in "+-" else "to": int(typed)})


@action("stop-master", "master")
def stop_master(look: Look) -> str:
    """Stops masters; their running jobs finish within each master's grace."""
    return _ask(look, "stop", now=False)


@action("cron-run", "name")
def cron_run(look: Look) -> str:
    """Enqueues a run of a cron entry now."""
    entry = _entry(look)
    return f"{entry.name}: job {entry.run().id} enqueued"


@action("cron-pause", "name")
def cron_pause(look: Look) -> str:
    """Pauses a cron entry until it is resumed."""
    entry = _entry(look)
    entry.pause()
    return f"{entry.name} paused"


@action("cron-resume", "name")
def cron_resume(look: Look) -> str:
    """Resumes a cron entry, from its next time on."""
    entry = _entry(look)
    entry.resume()
    return f"{entry.name} resumed"


def _masters(look: Look) -> list[Row]:
    """Returns the rows of the masters that the form names, with commas between them.

    Raises NotHereError for a master that is gone or hidden from the visitor, BadRequestError for a
    master that also serves queues which the visitor may not see.
    """
    names = look.asked.get("master", "")[:_MOST_NAMES_CHARS].split(",")
    rows = {row["name"]: row for row in look.backend.views.masters()}
    chosen = []
    for name in dict.fromkeys(filter(None, names)):
        queues = rows[name].get("queues", "").split(",") if name in rows else []
        if not any(map(look.access.sees, queues)):
            raise NotHereError(f"no master {name!r} is alive")
        if not all(map(look.access.sees, queues)):
            raise BadRequestError(f"master {name} serves queues, too, that you may not see")
        chosen.append(rows[name])
    if not chosen:
        raise BadRequestError("choose a master")
    return chosen


def _ask(look: Look, do: str, **more: Any) -> str:
    """Sends a command to the masters; returns a line with the reply of each."""
    replies = ask_masters(look.backend, _masters(look), do, **more)
    return "\n".join(f"{one.master}: {_of(one)}" for one in replies)


def _of(one: Reply) -> str:
    return "does not answer" if one.answer is None else one.words[:500]


def _of_reload(one: Reply) -> str:
    if one.answer is None:
        return "gone meanwhile"
    if one.is_well:
        return one.outcome
    serves = "no job starts" if one.answer.get("state") == "starting" else "the old code serves on"
    return f"refused, {serves}: {last_line(str(one.answer['error']))}"


def _entry(look: Look) -> CronJob:
    entry = fetch(look.param("name"), look.backend)
    if not look.access.sees(entry.queue_name):
        raise NotHereError(f"there is no cron entry {entry.name!r}")
    return entry
