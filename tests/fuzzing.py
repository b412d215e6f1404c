"""How the tests that try made-up data are set: few examples, the same in every run.

`RQD_FUZZ=20` tries twenty times as many, other ones in each run.
"""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

_TIMES = int(os.environ.get("RQD_FUZZ", "0"))


def fuzz(examples: int, **further: Any) -> settings:
    """A decorator for `@given` tests: this many examples, none kept from one run to the next.

    A failure is made smaller only with `RQD_FUZZ`: on a real server that takes minutes.
    """
    return settings(
        max_examples=examples * max(1, _TIMES),
        derandomize=not _TIMES,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if _TIMES else ())),
        suppress_health_check=list(HealthCheck),
        **further,
    )


def time_limit_s(usual: float) -> float:
    """The limit of such a test, with `RQD_FUZZ` in mind."""
    return usual * max(1, _TIMES)
