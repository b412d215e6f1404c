"""Cron entries in Redis: written by users, ticked by the first master that comes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rqd.model.errors import ConfigurationError
from rqd.model.numbers import EXACT, read_whole
from rqd.model.records import JobRecord
from rqd.store.answers import reads_answers
from rqd.store.messages import read_text

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry, CronRecord
    from rqd.store.store import Store


@dataclass(frozen=True, slots=True)
class DueEntry:
    """An entry whose run is due, as a master has seen it."""

    name: str
    version: str
    due_us: int
    schedule: str


@dataclass(frozen=True, slots=True)
class Due:
    """The due entries. `next_us`: when the first entry behind these is due, None for never."""

    now_us: int
    entries: tuple[DueEntry, ...]
    next_us: int | None


@dataclass(frozen=True, slots=True)
class Ticked:
    """The result of a tick. `is_stale`: another master came first, or the entry was changed.

    `made`: the number of new jobs.
    """

    is_stale: bool
    now_us: int
    made: int
    next_us: int | None


@reads_answers
class Crons:
    """The cron entries of a namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Any: as in Queries.
        self._redis: Any = store.redis

    def save(self, entry: CronEntry) -> bool:
        """Writes an entry; False if it was there unchanged.

        A changed entry keeps its counts and its pause, and under the same schedule its due time.
        Raises ConfigurationError if its time never comes.
        """
        due_us = entry.schedule.next_after(self._now_us())
        if due_us is None:
            raise ConfigurationError(
                f"cron {entry.schedule.cron!r}: the schedule has no time in the next fifty years"
            )
        fields = list(itertools.chain.from_iterable(entry.fields().items()))
        arguments = (entry.name, entry.version, due_us, entry.source, len(fields), *fields)
        return bool(self._store.ask("cron_save", *arguments))

    def load(self, entries: Sequence[CronEntry], source: str) -> tuple[list[str], list[str]]:
        """Writes a file's entries, and removes entries that are gone from that file.

        Returns the names of the changed entries, and of the removed entries.
        """
        changed = [entry.name for entry in entries if self.save(entry)]
        names = {entry.name for entry in entries}
        old = [one.name for one in self.all() if one.source == source and one.name not in names]
        return changed, [name for name in old if self.remove(name, source)]

    def due(self, passed_over: int = 0) -> Due:
        """Returns the entries whose run is due, twenty at most, without the first `passed_over`."""
        now, entries, following = self._store.run("cron_due", passed_over)
        found = tuple(
            DueEntry(read_text(name), read_text(version), int(due), read_text(schedule))
            for name, version, due, schedule in entries
        )
        return Due(int(now), found, int(following) if following else None)

    def tick(
        self,
        entry: DueEntry,
        runs: Sequence[tuple[str, int]],
        next_us: int | None,
        wrong: str = "",
    ) -> Ticked:
        """Enqueues an entry's due runs, (job's id, time) each, unless another master was first.

        `next_us` None: the entry is never due again. `wrong`: why, if its schedule can't be read.
        """
        flat = itertools.chain.from_iterable(runs)
        following = "" if next_us is None else next_us
        answer = self._store.run(
            *("cron_tick", entry.name, entry.version, entry.due_us, following, wrong),
            *(len(runs), *flat),
        )
        outcome, now, made, first = answer
        return Ticked(outcome == b"stale", int(now), int(made), int(first) if first else None)

    def run(self, name: str, job_id: str) -> JobRecord | None:
        """Enqueues a run now; None if there is no such entry, or its unique key is taken."""
        answer = self._store.ask("cron_run", name, job_id) or ()
        fields = dict(zip(answer[::2], answer[1::2], strict=True))
        return JobRecord.parse(job_id, fields) if fields else None

    def pause(self, record: CronRecord) -> bool:
        """Pauses an entry until it is resumed; False if it was changed meanwhile."""
        return bool(self._store.ask("cron_pause", record.name, record.version, ""))

    def resume(self, record: CronRecord) -> bool:
        """Resumes an entry at its next time from now on; False if it was changed meanwhile.

        Raises ConfigurationError if its schedule can't be read.
        """
        from rqd.model.schedule import Schedule  # noqa: PLC0415 - few clients need it

        due_us = Schedule.parse(record.schedule).next_after(self._now_us())
        return bool(self._store.ask("cron_pause", record.name, record.version, due_us or 0))

    def remove(self, name: str, source: str = "") -> bool:
        """Removes an entry, with `source` only if it came from there; False if there is none."""
        return bool(self._store.ask("cron_remove", name, source))

    def all(self) -> list[CronRecord]:
        """Returns all entries, by name."""
        from rqd.model.cron import CronRecord  # noqa: PLC0415 - as in resume

        scores: list[tuple[bytes, float]] = self._redis.zrange(
            self._store.keys.crons, 0, -1, withscores=True
        )
        with self._redis.pipeline(transaction=False) as pipe:
            for name, _ in scores:
                pipe.hgetall(self._store.keys.cron(read_text(name)))
            rows = pipe.execute()
        records = []
        for (name, score), row in zip(scores, rows, strict=True):
            if not row:
                continue
            texts = {read_text(key): read_text(value) for key, value in row.items()}
            records.append(
                CronRecord(
                    name=read_text(name),
                    version=texts.get("version", ""),
                    schedule=texts.get("schedule", ""),
                    queue=texts.get("queue", ""),
                    func_name=texts.get("func_name", ""),
                    description=texts.get("description", ""),
                    source=texts.get("source", ""),
                    next_us=int(score) if abs(score) < EXACT else None,
                    last_us=read_whole(texts.get("last")),
                    last_job=texts.get("last_job", ""),
                    runs=read_whole(texts.get("runs")) or 0,
                    is_paused="paused" in texts,
                    error=texts.get("error", ""),
                )
            )
        return sorted(records, key=lambda record: record.name)

    def find(self, name: str) -> CronRecord | None:
        """Returns the entry of this name, None if there is none."""
        return next((record for record in self.all() if record.name == name), None)

    def _now_us(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1_000_000 + int(micros)
