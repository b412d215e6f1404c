"""Canaries: nothing here is on any allowlist, and all of it notes that it was called."""

from __future__ import annotations

from typing import Any

seen: list[str] = []


def touch(*args: Any, **kwargs: Any) -> str:
    seen.append(f"touch{args}{kwargs}")
    return "touched"


class Forbidden:
    def __new__(cls, *args: Any, **kwargs: Any) -> Forbidden:
        seen.append(f"Forbidden{args}{kwargs}")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        seen.append(f"state {state}")
