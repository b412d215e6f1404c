"""A cron entry: a job under a name, with its schedule; each run of it is a job of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from rqd.model.errors import ConfigurationError
from rqd.model.records import NewJob
from rqd.model.schedule import EPOCH, Schedule

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
# The id of an entry's job in its signature: no real job's id has a colon.
ENTRY_PREFIX = "cron:"


def check_cron_name(name: str) -> str:
    """Returns the name of an entry; raises ConfigurationError if it can't be a name."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigurationError(
            f"entry name {name!r} may have letters, digits, '_' and '-' only, 128 at most"
        )
    return name


def run_id(name: str, at_us: int) -> str:
    """Returns the id of the run at this instant. Every master makes the same id for it."""
    at = (EPOCH + timedelta(microseconds=at_us)).astimezone(UTC)
    return f"cron-{name}-{at:%Y%m%dT%H%M%SZ}"


def run_id_by_hand(name: str, at: datetime, suffix: str) -> str:
    """Returns the id of a run that an operator asks for."""
    return f"cron-{name}-{at:%Y%m%dT%H%M%SZ}-{suffix}"


@dataclass(frozen=True, slots=True)
class CronEntry:
    """A cron entry. `job` has `cron:` and the name for an id. `source` is its file, if any."""

    name: str
    schedule: Schedule
    job: NewJob
    source: str = ""

    def fields(self) -> dict[str, str | bytes]:
        """Returns the entry's hash in Redis; the fields of each run's job begin with `job.`."""
        new, like = self.job, self.job.template
        of_job: dict[str, str | bytes] = {
            **like.hash_fields(new.func_name),
            "description": new.description,
            "payload": new.payload,
            "ttl": like.wait_limit(),
            "priority": str(like.priority) if like.priority else "",
            "meta": new.meta,
            "signature": new.signature,
            "meta_signature": new.meta_signature,
        }
        own = {
            "schedule": self.schedule.dump(),
            "queue": like.queue,
            "func_name": new.func_name,
            "description": new.description,
        }
        return own | {f"job.{name}": value for name, value in of_job.items() if value != ""}

    @property
    def version(self) -> str:
        """A digest of all fields, which changes with any of them."""
        digest = sha256()
        for name, value in sorted(self.fields().items()):
            part = value if isinstance(value, bytes) else value.encode(errors="replace")
            digest.update(b"%d:%b%d:%b" % (len(name), name.encode(), len(part), part))
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class CronRecord:
    """An entry as it stands in Redis. Instants in microseconds since 1970, None for none."""

    name: str
    version: str
    schedule: str
    queue: str
    func_name: str
    description: str
    source: str
    next_us: int | None
    last_us: int | None
    last_job: str
    runs: int
    is_paused: bool
    error: str
