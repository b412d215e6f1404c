"""Renders data as HTML; every text is escaped, and spells out its invisible characters."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rqd.model.numbers import iso

FOLDER = Path(__file__).parent
_SHORT = 120
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_KIB = 1024


def environment() -> Environment:
    """Makes the templates' environment."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": count, "duration": duration, "size": size, "short": short, "time": time_tag,
    }  # fmt: skip
    made.globals["static_version"] = static_version()
    return made


def visible(value: Any) -> Any:
    """Spells out control characters and overrides of the writing direction in a text."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in value)


def count(number: int) -> str:
    """Formats a number with separators."""
    return f"{number:,}"


def duration(seconds: float | None) -> str:
    """Formats a length of time with one or two units; empty for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // 60:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(size_bytes: int | None) -> str:
    """Formats a size in binary units; empty for None."""
    if size_bytes is None:
        return ""
    amount, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < _KIB:
            break
        amount, unit = amount / _KIB, larger
    return f"{amount:,.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def short(text: object, most: int = _SHORT) -> str:
    """Returns the text's first characters, for a table's cell."""
    told = str(text)
    return told if len(told) <= most else f"{told[: most - 1]}…"


def time_tag(at: str | int | None) -> Markup:
    """Makes a `<time>` of ISO 8601 or microseconds; the script shows it in the viewer's zone."""
    text = iso(at) if isinstance(at, int) else at
    try:
        instant = datetime.fromisoformat(text or "")
    except ValueError:
        return Markup("")
    shown = instant.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}">{}</time>').format(instant.isoformat(), shown)


@cache
def static_version() -> str:
    """Returns a short checksum of the static files, for their addresses."""
    digest = hashlib.sha256()
    for path in sorted((FOLDER / "static").rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]
