"""Will all cron entries run? What `rqd doctor` says of them, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rqd.model.finding import Finding, Verdict
from rqd.model.stored import instant
from rqd.store.crons import Crons
from rqd.store.store import Store
from rqd.store.views import Views

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry, CronRecord

# A master that is there makes a run within a second; one that was just lost is missed by then.
_OVERDUE_US = 60_000_000


def examine_crons(store: Store, entries: Sequence[CronEntry], source: str) -> Iterator[Finding]:
    """Says what keeps cron entries from running. `entries` are those of the file `source`, which
    is empty for no file.

    Raises redis-py's errors where Redis can't be reached.
    """
    records, views = Crons(store).all(), Views(store)
    if source:
        yield _judge_file(entries, {record.name for record in records})
    if broken := [f"{record.name}: {record.error}" for record in records if record.error]:
        yield _warn("cron broken", broken, "write its schedule again: rqd cron add, or load")
    waiting = [record for record in records if record.next_us is not None]
    since_us = views.now_us() - _OVERDUE_US
    if overdue := [_late(one) for one in waiting if (one.next_us or 0) < since_us]:
        advice = "does a daemon run (rqd masters), and what does its log say of them?"
        yield _warn("cron overdue", overdue, advice)
    served = {queue for row in views.masters() for queue in row.get("queues", "").split(",")}
    if unserved := [one for one in waiting if one.queue not in served]:
        seen = [f"no daemon serves {one.queue}, for {one.name}" for one in unserved]
        queues = ",".join(sorted({one.queue for one in unserved}))
        yield _warn("cron queues", seen, f"their runs wait: rqd start --queues {queues}")


def _judge_file(entries: Sequence[CronEntry], there: set[str]) -> Finding:
    missing = [entry.name for entry in entries if entry.name not in there]
    if not missing:
        return Finding("cron file", Verdict.OK, "its entries are all in Redis")
    advice = "a start and rqd reload load it, rqd cron load does it at once"
    return _warn("cron file", [f"not in Redis: {', '.join(missing)}"], advice)


def _late(record: CronRecord) -> str:
    return f"{record.name}, due {instant(record.next_us or 0):%Y-%m-%d %H:%M:%SZ}"


def _warn(what: str, seen: Sequence[str], advice: str) -> Finding:
    return Finding(what, Verdict.WARNING, "; ".join(seen), advice)
