"""What the store's tests do in place of producers and masters: a store, driven by hand."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rqd.model.records import Claim, JobRecord, NewJob, Template
from rqd.model.terms import dump_terms
from rqd.store.connection import client_connection
from rqd.store.messages import Beat, BeatAnswer, Settlement, Turn, TurnAnswer
from rqd.store.queries import Queries
from rqd.store.store import Store

LEASE_US = 15_000_000
ROW_TTL_S = 15
_ROUNDED_S = 0.002  # the server's clock goes by milliseconds
_OWN = ("description", "meta", "signature", "meta_signature")


def job(job_id: str, queue: str = "low", **fields: Any) -> NewJob:
    """A job that calls `tasks.f`; `fields` of NewJob, or of its Template."""
    own = {name: fields.pop(name) for name in _OWN if name in fields}
    payload = fields.pop("payload", b"call")
    return NewJob(job_id, Template(queue, **fields), "tasks.f", payload, **own)


@dataclass
class Driver:
    """One namespace on one server."""

    url: str
    namespace: str = "rqd"
    store: Store = field(init=False)
    views: Queries = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self.store = Store(client_connection(self.url), self.namespace)
        self.views = Queries(self.store)
        # Any: redis-py types each answer as bytes, text and a future at once.
        self.redis: Any = self.store.redis
        self.keys = self.store.keys

    # -- a producer

    def enqueue(self, *jobs: NewJob | str, request: str = "") -> int | None:
        made = [job(one) if isinstance(one, str) else one for one in jobs]
        return self.store.enqueue(made, request or self.store.request_id())

    # -- a master

    def turn(
        self,
        *settlements: Settlement,
        free: int | Sequence[int] = 0,
        queues: Sequence[str] = ("low",),
        master: str = "m",
        request: str = "",
        lease_us: int = LEASE_US,
        nudge: bool = False,
        ahead: Sequence[int] = (),
        busy: Sequence[int] = (),
    ) -> TurnAnswer:
        numbers = range(1, free + 1) if isinstance(free, int) else free
        return self.store.turn(
            Turn(
                request or self.store.request_id(),
                master,
                lease_us,
                settlements,
                tuple(numbers),
                tuple(queues) if numbers or ahead else (),
                nudge,
                ahead=tuple(ahead),
                busy=tuple(busy),
            )
        )

    def claim(self, count: int = 1, *queues: str, **options: Any) -> list[Claim]:
        return list(self.turn(free=count, queues=queues or ("low",), **options).claims)

    def claim_for(self, workers: Sequence[int], *queues: str, **options: Any) -> list[Claim]:
        return list(self.turn(free=workers, queues=queues, **options).claims)

    def claim_one(self, *queues: str, **options: Any) -> Claim:
        (claim,) = self.claim(1, *queues, **options)
        return claim

    def settle(self, claim: Claim, decision: str = "finish", **fields: Any) -> str:
        (verdict,) = self.turn(settlement(claim, decision, **fields)).verdicts
        return verdict

    def beat(
        self,
        *running: Claim,
        master: str = "m",
        boot: str = "b",
        obeyed: str = "",
        lease_us: int = LEASE_US,
        row_ttl_s: int = ROW_TTL_S,
        workers: int = 1,
        moved: int | str = "",
    ) -> BeatAnswer:
        held = tuple((one.id, one.token, moved) for one in running)
        rows = {number: {"state": "idle"} for number in range(1, workers + 1)}
        row: dict[str, str | int | float] = {"boot": boot, "state": "idle", "workers": workers}
        return self.store.beat(Beat(master, boot, lease_us, row_ttl_s, obeyed, held, row, rows))

    # -- what is to be seen

    def record(self, job_id: str) -> JobRecord:
        record = self.views.job(job_id)
        assert record is not None, f"there is no job {job_id}"
        return record

    def status(self, job_id: str) -> str:
        return str(self.record(job_id).status)

    def field(self, job_id: str, name: str) -> bytes | None:
        value: bytes | None = self.redis.hget(self.keys.job(job_id), name)
        return value

    def ready(self, queue: str = "low") -> list[str]:
        return self.views.ready_ids(queue)

    def has_marker(self, queue: str = "low") -> bool:
        return bool(self.redis.exists(self.keys.wake_queue(queue)))

    def take_marker(self, queue: str = "low") -> bool:
        return bool(self.redis.delete(self.keys.wake_queue(queue)))

    def names(self) -> list[str]:
        return sorted(key.decode() for key in self.redis.keys("*"))

    def dump(self) -> dict[bytes, bytes]:
        """Every key with its whole value and whether it expires."""
        keys: list[bytes] = self.redis.keys("*")
        with self.redis.pipeline(transaction=False) as asked:
            for key in keys:
                asked.type(key).pttl(key)
            told = asked.execute()
            for key, kind in zip(keys, told[::2], strict=True):
                # What has no order of its own comes out in any, once it is large.
                match kind:
                    case b"hash":
                        asked.hgetall(key)
                    case b"set":
                        asked.smembers(key)
                    case _:
                        asked.dump(key)
            values = asked.execute()
        return {
            key: _in_order(value) + str(pttl >= 0).encode()
            for key, value, pttl in zip(keys, values, told[1::2], strict=True)
        }

    def ttl_s(self, key: str) -> float:
        """Seconds left, -1 for ever, -2 without such a key."""
        ttl_ms = int(self.redis.pttl(key))
        return ttl_ms if ttl_ms < 0 else ttl_ms / 1000

    def left_of(self, seconds: float) -> Any:
        """What is left by now of so many seconds that began in the course of this test: to be equal
        to, however slow the machine is.
        """
        passed_s = time.monotonic() - self._began
        return pytest.approx(seconds - passed_s / 2, abs=passed_s / 2 + _ROUNDED_S)

    def counters(self, **values: int) -> None:
        """Sets the namespace's counters by hand, such as the time a script last saw."""
        self.redis.hset(f"{self.keys.prefix}counters", mapping=values)

    def expire_leases(self, *job_ids: str) -> None:
        """As if these jobs' master had been silent for longer than a lease."""
        past_us = self.views.now_us() - 1
        for job_id in job_ids:
            self.redis.zadd(self.keys.leases, {job_id: past_us})


def _in_order(value: Any) -> bytes:
    match value:
        case dict():
            return repr(sorted(value.items())).encode()
        case set():
            return repr(sorted(value)).encode()
    return value or b""


def calls_back(**ids: str) -> str:
    """The terms of a job whose end in this status makes a job of this id, on its queue `low`."""
    fields = {"func_name": "tasks.f", "serializer": "pickle", "timeout": "60"}
    like = {"queue": "low", "payload": b"call".hex(), "fields": fields}
    made = [{"on": status, "id": job_id, **like} for status, job_id in ids.items()]
    return dump_terms({"callbacks": made})


def waits_for(*parents: str, on_failure: str = "", group: str = "") -> str:
    """The terms of a job that depends on these."""
    how = {"on_failure": on_failure} if on_failure else {}
    part = {"group": {"name": group}} if group else {}
    return dump_terms({"depends_on": {"ids": list(parents), **how}, **part})


def in_group(name: str) -> str:
    """The terms of a job of this group."""
    return dump_terms({"group": {"name": name}})


def settlement(claim: Claim, decision: str = "finish", **fields: Any) -> Settlement:
    """What a master would say of this claim's end."""
    return Settlement(
        claim.id,
        claim.token,
        claim.worker,
        decision,
        delay_us=fields.pop("delay_us", 0),
        result=fields.pop("result", b"result" if decision == "finish" else b""),
        fields=tuple(fields.items()),
    )


def ids(claims: Iterable[Claim]) -> list[str]:
    return [claim.id for claim in claims]
