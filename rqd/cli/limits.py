"""`rqd limits`: the limits in use, who holds them and who waits."""

from __future__ import annotations

import json
from typing import Any

import click

from rqd.cli.grammar import Command
from rqd.cli.options import as_json, backend, redis_options
from rqd.cli.output import echo_table, iso
from rqd.store.limit_views import LimitView

_SHOWN_HOLDERS = 3


@click.command(name="limits", cls=Command)
@redis_options
@as_json
def command(url: str | None, namespace: str | None, as_json: bool) -> None:
    """Show the limits in use.

    What runs under each, and how many jobs wait for it.
    """
    with backend(url, namespace) as there:
        limits = there.views.limits()
        now_us = there.views.now_us()
    if as_json:
        click.echo(json.dumps([_describe(limit) for limit in limits], indent=2))
        return
    heads = ("limit", "running", "rate", "next", "waiting", "queues", "held by")
    rows = [
        (
            limit.key, _running(limit), _rate(limit), _until(limit.next_us, now_us),
            sum(limit.waiting.values()), ",".join(limit.waiting), _holders(limit),
        )
        for limit in limits
    ]  # fmt: skip
    echo_table("Limits", heads, rows)


def _describe(limit: LimitView) -> dict[str, Any]:
    return {
        "key": limit.key,
        "concurrency": limit.concurrency,
        "rate_per_s": round(1_000_000 / limit.every_us, 6) if limit.every_us else None,
        "burst": limit.burst,
        "next_token": iso(limit.next_us or None),
        "holders": list(limit.holders),
        "waiting": limit.waiting,
    }


def _running(limit: LimitView) -> str:
    return f"{len(limit.holders)}/{limit.concurrency}" if limit.concurrency else ""


def _rate(limit: LimitView) -> str:
    if not limit.every_us:
        return ""
    per_s = 1_000_000 / limit.every_us
    for unit_s, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_s * unit_s >= 1 or unit == "h":
            return f"{per_s * unit_s:.3g}/{unit}, burst {limit.burst}"
    return ""


def _until(next_us: int | None, now_us: int) -> str:
    return f"in {max(0, next_us - now_us) / 1e6:.1f} s" if next_us else ""


def _holders(limit: LimitView) -> str:
    shown = [job_id[:8] for job_id in limit.holders[:_SHOWN_HOLDERS]]
    return " ".join(shown) + (" .." if len(limit.holders) > _SHOWN_HOLDERS else "")
