"""`--queues high:5,low:1` and `--precedence`: which queues, and in which order."""

from __future__ import annotations

import re
from typing import TypedDict

from rqd.model.errors import ConfigurationError

_WEIGHTED = re.compile(r"(.+):(\d{1,4})\Z", re.ASCII)


class Order(TypedDict):
    """What a daemon's Config is told of its queues."""

    queues: tuple[str, ...]
    precedence: str
    weights: tuple[int, ...]


def read_order(names: tuple[str, ...], precedence: str | None) -> Order:
    """The queues without their weights, which they have if `precedence` is weighted, or not said.

    A queue without one among others that have weighs 1. Raises ConfigurationError.
    """
    found = [_WEIGHTED.match(name) for name in names]
    if precedence not in (None, "weighted") or (precedence is None and not any(found)):
        return {"queues": names, "precedence": precedence or "strict", "weights": ()}
    if not any(found):
        raise ConfigurationError("--precedence weighted needs weights: --queues high:5,low:1")
    return {
        "queues": tuple(
            match[1] if match else name for name, match in zip(names, found, strict=True)
        ),
        "precedence": "weighted",
        "weights": tuple(int(match[2]) if match else 1 for match in found),
    }
