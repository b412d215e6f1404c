"""Wording for messages to people."""

from __future__ import annotations

import os
from typing import Any


def counted(number: Any, noun: str) -> str:
    """Returns a number with its noun: `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def has_colours() -> bool:
    """False if the environment forbids colours, or the terminal has none (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")
