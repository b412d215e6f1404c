"""Adds up the groups of failures that the steps of a search find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from struct import Struct

from rqd.model.errors import ConfigurationError
from rqd.model.filter import CAUSES, NO_FRAME, OTHER_CAUSE, Filter
from rqd.store.messages import read_text

# Hostile records could have a frame each.
MOST_GROUPS = 10_000
_KINDS = (OTHER_CAUSE, *CAUSES)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one kind, function and place. Instants are microseconds since 1970, None: never.

    `kind` is one of CAUSES or `other`. `frame` is the innermost one (`file:line function`), the
    class of the exception if the frame is unknown, or empty. `example_id` and `example_cause` are
    of the latest failure.
    """

    kind: str
    function: str
    frame: str
    jobs: int
    first_us: int | None
    last_us: int | None
    example_id: str
    example_cause: str

    def within(self, wanted: Filter) -> Filter:
        """Narrows the filter of the search to this group.

        Raises ConfigurationError if no filter has such texts: somebody else wrote them to Redis.
        """
        if not self.function:
            raise ConfigurationError("jobs without a function are in no filter: choose them by id")
        frame = self.frame or NO_FRAME
        return replace(wanted, cause=self.kind, function=self.function, frame=frame)


# A group as the script packs it: kind, jobs, first and last; lengths of the texts behind it.
_PACKED = Struct(">IIddIIII")


@dataclass(slots=True)
class _Group:
    """A group so far; `example` has the id and the cause of its latest job."""

    jobs: int
    first: float
    last: float
    example: tuple[bytes, bytes]


@dataclass(slots=True)
class Tally:
    """The groups of the steps so far: a step may have hundreds."""

    ungrouped: int = 0
    _known: dict[tuple[int, bytes, bytes], _Group] = field(default_factory=dict)

    def add(self, found: Sequence[bytes]) -> None:
        """Adds the groups of a step."""
        for packed in found:
            if len(packed) < _PACKED.size:  # struct's own error is none that says so
                raise ValueError(f"{packed[:40]!r} for a group")
            kind, jobs, first, last, *lengths = _PACKED.unpack_from(packed)
            texts = _texts(packed, lengths)
            key = (kind, texts[0], texts[1])
            known = self._known.get(key)
            if known is not None:
                known.jobs += jobs
                known.first = min(known.first, first)
                if last > known.last:
                    known.last, known.example = last, (texts[2], texts[3])
            elif len(self._known) < MOST_GROUPS:
                self._known[key] = _Group(jobs, first, last, (texts[2], texts[3]))
            else:
                self.ungrouped += jobs

    def groups(self) -> tuple[FailureGroup, ...]:
        """Returns the groups, the largest first and of these the latest."""
        ordered = sorted(self._known.items(), key=lambda one: (-one[1].jobs, -one[1].last))
        return tuple(
            FailureGroup(
                *(_KINDS[kind], read_text(function), read_text(frame), group.jobs),
                *(int(group.first) or None, int(group.last) or None),
                *map(read_text, group.example),
            )
            for (kind, function, frame), group in ordered
        )


def _texts(packed: bytes, lengths: Sequence[int]) -> list[bytes]:
    texts, at = [], _PACKED.size
    for length in lengths:
        texts.append(packed[at : at + length])
        at += length
    return texts
