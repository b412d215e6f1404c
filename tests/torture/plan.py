"""Which fault comes when: a pure function of the seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.torture.faults import Fault, Lane

_GAP_S = {
    Lane.MASTER: (0.5, 2.5),
    Lane.REDIS: (1.0, 4.0),
    Lane.JOBS: (0.3, 1.5),
    Lane.OPERATOR: (2.0, 6.0),
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come, so long after the one before it; `seed` is for its own choices."""

    fault: Fault
    gap_s: float
    seed: int


def plan(
    faults: Sequence[Fault], lane: Lane, seed: int, part: int = 0, of: int = 1
) -> Iterator[Planned]:
    """The faults of a lane, without an end; nothing if there are none for it.

    Each comes once in the first round, and `often` times in every further one. Where several
    masters share the lane's faults, each begins in another place of the first round (part n of so
    many), so that together they come through it sooner.
    """
    mine = [fault for fault in faults if fault.lane is lane]
    first = Random(f"{seed}:{lane.value}").sample(mine, len(mine))
    rng = Random(f"{seed}:{lane.value}:{part}")
    start = len(first) * part // of
    rounds = [first[start:] + first[:start]]
    often = [fault for fault in mine for _ in range(fault.often)]
    for number in itertools.count():
        order = rounds[0] if number == 0 else rng.sample(often, len(often))
        if not order:
            return
        for fault in order:
            yield Planned(fault, rng.uniform(*_GAP_S[lane]), rng.randrange(2**32))
