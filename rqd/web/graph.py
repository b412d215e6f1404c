"""The jobs around a job: dependencies, dependents, callbacks and its group, with their states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rqd.client.dependency import parents_in
from rqd.model.names import is_job_id
from rqd.model.records import JobRecord
from rqd.model.terms import read_terms
from rqd.web.frame import Look

# So many levels of a tree, so many jobs of a list, and so many jobs of a tree.
_MOST_LEVELS, _MOST_JOBS, _MOST_OF_TREE = 3, 20, 60

Next = Callable[[Sequence[JobRecord]], list[tuple[int, list[str]]]]
Branch = dict[str, Any]


def around(look: Look, record: JobRecord) -> dict[str, Any]:
    """Reads the jobs around a job, as far as the visitor may see them.

    Each of the lists has `jobs`, each with the list of the next jobs, the number of `more` jobs,
    and the number of `hidden` jobs.
    """
    terms = read_terms(record.terms)
    parents, groups = parents_in(terms), _groups_in(terms)
    views = look.backend.views
    ((dependents, first),) = views.dependents([record.id], _MOST_JOBS)
    return {
        "depends_on": _tree(look, len(parents), parents, _parents),
        "awaited_groups": [_counted(look, name) for name in groups],
        "dependents": _tree(look, dependents, first, lambda found: _dependents(look, found)),
        "callbacks": _tree(look, *_listed(record.callbacks.split()), _none),
        "callback_of": _tree(look, *_listed(_callback_of(terms)), _none),
        "group": _group(look, terms),
    }


def ids_in(branch: Branch) -> list[str]:
    """Returns the ids of a list's jobs, without the next jobs."""
    return [job["id"] for job in branch["jobs"]]


def _tree(look: Look, total: int, ids: list[str], following: Next) -> Branch:
    """Reads a list of jobs and the lists that follow from it, level by level."""
    top: Branch = {"total": total, "ids": ids}
    level, left = [top], _MOST_OF_TREE
    for depth in range(_MOST_LEVELS):
        for branch in level:
            branch["ids"] = branch["ids"][: min(_MOST_JOBS, left)]
            left -= len(branch["ids"])
        nodes = _fill(look, level)
        is_last = depth == _MOST_LEVELS - 1
        follows = following([record for record, _ in nodes])
        level = []
        for (_, node), (count, next_ids) in zip(nodes, follows, strict=True):
            node["then"] = {"total": count, "ids": [] if is_last else next_ids}
            level.append(node["then"])
    _fill(look, level)
    return top


def _fill(look: Look, level: list[Branch]) -> list[tuple[JobRecord, dict[str, Any]]]:
    """Turns the ids of these lists into jobs, read in one round trip; returns the jobs shown."""
    wanted = [job_id for branch in level for job_id in branch["ids"]]
    records = dict(zip(wanted, look.backend.views.jobs(wanted), strict=True)) if wanted else {}
    shown: list[tuple[JobRecord, dict[str, Any]]] = []
    for branch in level:
        ids: list[str] = branch.pop("ids")
        branch |= {"jobs": [], "more": branch.pop("total") - len(ids), "hidden": 0}
        for job_id in ids:
            record = records[job_id]
            if record is not None and look.access.sees(record.origin):
                branch["jobs"].append(node := _node(look, record))
                shown.append((record, node))
            elif record is None and look.access.sees_all:
                branch["jobs"].append(_gone(job_id))
            else:  # the queue of a job without a record is unknown
                branch["hidden"] += 1
    return shown


def _node(look: Look, record: JobRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "function": record.func_name[:500],
        "queue": record.origin,
        "status": str(record.status),
        "cause": look.redact(record.cause[:500]) if str(record.status) == "failed" else "",
    }


def _gone(job_id: str) -> dict[str, Any]:
    none = {"jobs": [], "more": 0, "hidden": 0}
    named = {"id": job_id, "function": "", "queue": "", "cause": ""}
    return named | {"status": "gone", "then": none}


def _parents(found: Sequence[JobRecord]) -> list[tuple[int, list[str]]]:
    return [_listed(parents_in(read_terms(record.terms))) for record in found]


def _dependents(look: Look, found: Sequence[JobRecord]) -> list[tuple[int, list[str]]]:
    return look.backend.views.dependents([record.id for record in found], _MOST_JOBS)


def _none(found: Sequence[JobRecord]) -> list[tuple[int, list[str]]]:
    return [(0, [])] * len(found)


def _listed(ids: list[str]) -> tuple[int, list[str]]:
    return len(ids), ids


def _callback_of(terms: dict[str, Any]) -> list[str]:
    about = terms.get("callback")
    parent = about.get("of") if isinstance(about, dict) else None
    return [parent] if isinstance(parent, str) and is_job_id(parent) else []


def _groups_in(terms: dict[str, Any]) -> list[str]:
    """Returns the names of the groups that a job waits for."""
    given = terms.get("depends_on")
    ids = given.get("ids") if isinstance(given, dict) else None
    found = [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
    names = [one.removeprefix("group:") for one in found if one.startswith("group:")]
    return [name for name in names if is_job_id(name)][:_MOST_JOBS]


def _group(look: Look, terms: dict[str, Any]) -> dict[str, Any] | None:
    """Reads a job's group with its first jobs; None without a group."""
    given = terms.get("group")
    name = given.get("name") if isinstance(given, dict) else None
    if not (isinstance(name, str) and is_job_id(name)):
        return None
    total, ids = look.backend.views.first_of_group(name, _MOST_JOBS)
    return _counted(look, name) | _tree(look, total, ids, _none)


def _counted(look: Look, name: str) -> dict[str, Any]:
    """Returns a group's name and its jobs by state; None for visitors that see some queues only."""
    counts = look.backend.views.group_counts(name) if look.access.sees_all else None
    return {"name": name, "counts": asdict(counts) if counts else None}
