"""The parents of a job: the jobs and groups that it waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from rqd.model.errors import InvalidCallError
from rqd.model.names import check_job_id

# Parents stand in the job's own record, and a script looks at each.
MOST_PARENTS = 1000


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


class _IsGroup(Protocol):
    @property
    def as_parent(self) -> str: ...


Parent = _HasId | _IsGroup | str


@dataclass(frozen=True, slots=True)
class Dependency:
    """The parents to wait for, as jobs or ids, and the effect of their failure (RQ's).

    With `allow_failure` any end of theirs will do: failed, stopped, canceled, even deleted. Without
    it the job waits until a failed parent is requeued and succeeds. `on_failure="cancel"` cancels
    it instead, with all jobs that wait for it. With `enqueue_at_front` it goes before all other
    jobs once it is ready.

    Raises InvalidCallError for other values than jobs, for none and for more than 1,000.
    """

    jobs: Parent | Iterable[Parent]
    allow_failure: bool = False
    enqueue_at_front: bool = False
    on_failure: Literal["wait", "cancel"] = "wait"
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids = tuple(dict.fromkeys(map(_id_of, _listed(self.jobs))))
        if not ids:
            raise InvalidCallError("a Dependency names no job: write at least one id")
        if len(ids) > MOST_PARENTS:
            raise InvalidCallError(
                f"a job can depend on {MOST_PARENTS:,} jobs, not on {len(ids):,}"
            )
        if self.on_failure not in ("wait", "cancel"):
            raise InvalidCallError(f"on_failure={self.on_failure!r}: write 'wait' or 'cancel'")
        if self.allow_failure and self.on_failure == "cancel":
            raise InvalidCallError(
                "a dependency that has allow_failure=True can't have on_failure='cancel' too"
            )
        object.__setattr__(self, "ids", ids)

    def term(self) -> dict[str, Any]:
        """The term that the scripts read."""
        on_failure = "run" if self.allow_failure else self.on_failure
        return {"ids": self.ids} | ({} if on_failure == "wait" else {"on_failure": on_failure})


def read_depends_on(depends_on: Any) -> Dependency | None:
    """Reads a `depends_on=` into one Dependency; None for no jobs.

    An option that is set in any of several Dependencies holds for all parents (RQ's). Raises
    InvalidCallError, ConfigurationError.
    """
    several = [
        one if isinstance(one, Dependency) else Dependency(one) for one in _listed(depends_on)
    ]
    if len(several) < 2:
        return several[0] if several else None
    return Dependency(
        [job_id for one in several for job_id in one.ids],
        allow_failure=any(one.allow_failure for one in several),
        enqueue_at_front=any(one.enqueue_at_front for one in several),
        on_failure="cancel" if any(one.on_failure == "cancel" for one in several) else "wait",
    )


def parents_in(terms: dict[str, Any]) -> list[str]:
    """Returns the ids of the parents in a job's terms; an empty list if they are damaged."""
    given = terms.get("depends_on")
    ids = given.get("ids") if isinstance(given, dict) else None
    return list(filter(_is_job_id, ids)) if isinstance(ids, list) else []


def _is_job_id(parent: Any) -> bool:
    return isinstance(parent, str) and ":" not in parent


def _listed(jobs: Any) -> list[Any]:
    return list(jobs) if isinstance(jobs, list | tuple | set | frozenset) else [jobs]


def _id_of(parent: Any) -> str:
    parent = getattr(parent, "as_parent", parent)
    if isinstance(parent, str):
        check_job_id(parent.removeprefix("group:"))
        return parent
    job_id = getattr(parent, "id", None)
    if not isinstance(job_id, str):
        raise InvalidCallError(f"depends_on={parent!r}: write a job, an id, a group, or a list")
    return check_job_id(job_id)
