"""How things are said to people."""

from __future__ import annotations

from typing import Any


def counted(number: Any, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
