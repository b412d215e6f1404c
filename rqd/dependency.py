"""On which other jobs a job waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from rqd.model.errors import InvalidCallError
from rqd.model.names import check_job_id

# They stand in the job's own record, and a script looks at each.
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
    """The jobs to wait for, by themselves or by id, and what their failure means (RQ's).

    With `allow_failure` any end of theirs will do: failed, stopped, canceled, even deleted. Without
    it the job waits until a failed parent was requeued and succeeds; `on_failure="cancel"` cancels
    it instead, and with it what waits for it. `enqueue_at_front`: ready, it goes before all others.

    Raises InvalidCallError for what are no jobs.
    """

    jobs: Parent | Iterable[Parent]
    allow_failure: bool = False
    enqueue_at_front: bool = False
    on_failure: Literal["wait", "cancel"] = "wait"
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids = tuple(dict.fromkeys(map(_id_of, _listed(self.jobs))))
        if not ids:
            raise InvalidCallError("a Dependency on no job: name at least one")
        if len(ids) > MOST_PARENTS:
            raise InvalidCallError(
                f"a job can depend on {MOST_PARENTS:,} others, not on {len(ids):,}"
            )
        if self.on_failure not in ("wait", "cancel"):
            raise InvalidCallError(f"on_failure={self.on_failure!r}: write 'wait' or 'cancel'")
        if self.allow_failure and self.on_failure == "cancel":
            raise InvalidCallError(
                "a dependency that has allow_failure=True can't have on_failure='cancel' too"
            )
        object.__setattr__(self, "ids", ids)

    def term(self) -> dict[str, Any]:
        """What the scripts read of it."""
        on_failure = "run" if self.allow_failure else self.on_failure
        return {"ids": self.ids} | ({} if on_failure == "wait" else {"on_failure": on_failure})


def read_depends_on(depends_on: Any) -> Dependency | None:
    """What `depends_on=` says, as one value; None for no jobs.

    What one of several Dependencies allows or asks for holds for all (RQ's). Raises
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
    """The ids of the jobs that a job's terms name as its parents; none where they are damaged."""
    told = terms.get("depends_on")
    ids = told.get("ids") if isinstance(told, dict) else None
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
