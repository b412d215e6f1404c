"""A namespace with a job in each state, what may be done to it, and what must hold of it after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rqd.model.limits import RateLimit, Unique
from rqd.model.records import Claim
from rqd.model.terms import dump_terms
from tests.store.driving import Driver, calls_back, in_group, job, settlement, waits_for

QUEUES = ("high", "low")
INDEXES = ("started", "scheduled", "deferred", "limited", "finished", "failed", "canceled")
# What each scene has; `late` is scheduled and due, `lost` is started and its lease has run out;
# `child` waits for the success of `runs` and `next`, `cleaner` for any end of `runs`,
# `report` for the end of the group of `child` and `member`; an end of `runs` or `suspect` makes a
# callback; `waits` waits for the limit that `holds` holds, and each has a unique key.
JOBS = (
    "next", "other", "later", "late", "runs", "lost", "suspect", "dead", "finished", "failed",
    "canceled", "child", "cleaner", "member", "report", "holds", "waits",
)  # fmt: skip
# The fields by which a job has its place.
_DECIDING = ("status", "origin", "limited")


class Scene:
    """Two masters with work under way: `m` lives, `gone` was killed."""

    def __init__(self, url: str) -> None:
        self.rqd = rqd = Driver(url)
        options: dict[str, Any] = {"retries": 2, "retry_intervals": (0, 5)}
        rqd.store.hello("m", "b", 15, {"workers": 2, "host": "h", "pid": 7})
        rqd.store.hello("gone", "dead", 15, {"workers": 1, "host": "h", "pid": 8})
        for name in ("runs", "lost", "suspect", "finished", "failed"):
            called = {"finished": f"after-{name}", "failed": f"sorry-{name}", "stopped": "hush"}
            terms = calls_back(**called) if name in ("runs", "suspect") else ""
            rqd.enqueue(job(name, "high", terms=terms, **options))
        rqd.enqueue(job("holds", "high", terms=shares("u"), **options))
        self.claims: dict[str, Claim] = {one.id: one for one in rqd.claim(6, "high")}
        rqd.enqueue(job("waits", "high", terms=shares("v"), **options))
        rqd.claim(1, "high")
        rqd.enqueue(job("dead", **options))
        rqd.claim(1, master="gone")
        rqd.settle(self.claims["finished"])
        rqd.settle(self.claims["failed"], "fail", cause="raised")
        rqd.enqueue("canceled")
        rqd.store.cancel("canceled")
        rqd.enqueue(job("next", **options), job("other", ttl_s=900))
        rqd.enqueue(job("child", terms=waits_for("runs", "next", group="g")))
        rqd.enqueue(job("member", terms=in_group("g"), at_front=True))
        rqd.enqueue(job("report", terms=waits_for("group:g")))
        rqd.enqueue(job("cleaner", "high", terms=waits_for("runs", on_failure="run")))
        rqd.enqueue(job("later", delay_us=10**9), job("late", delay_us=10**9, **options))
        rqd.redis.zadd(rqd.keys.scheduled, {"late": 1})
        rqd.redis.hset(rqd.keys.job("suspect"), "losses", 2)
        rqd.expire_leases("lost", "suspect")

    def transitions(self) -> dict[str, Callable[[], object]]:
        """Everything that anybody can ask of the store, by name."""
        rqd, store, claims = self.rqd, self.rqd.store, self.claims
        every: dict[str, Callable[[], object]] = {
            "enqueue": lambda: rqd.enqueue(job("new"), job("newer", "high", at_front=True)),
            "enqueue with options": lambda: rqd.enqueue(
                job("new", priority=5, ttl_s=60, retries=3, payload=b"x" * 70_000, meta=b"m")
            ),
            "enqueue an ended id": lambda: rqd.enqueue("finished", "failed"),
            "enqueue a live id": lambda: rqd.enqueue("next"),
            "schedule": lambda: rqd.enqueue(job("new", delay_us=5), job("newer", due_us=1)),
            "enqueue a dependent": lambda: rqd.enqueue(
                job("new", terms=waits_for("child", "finished", "later", group="g"))
            ),
            "enqueue with a limit": lambda: rqd.enqueue(job("new", terms=shares("w"))),
            "enqueue a refused one": lambda: rqd.enqueue(job("new", terms=shares("u"))),
            "replace": lambda: rqd.enqueue(job("new", terms=shares("v", "replace"))),
            "leave out": lambda: rqd.enqueue(
                job("new", terms=shares("u", "existing")), job("newer", terms=shares("x"))
            ),
            "cancel, and let go on": lambda: store.cancel("next", enqueue_dependents=True),
            "delete all": lambda: store.delete("runs", delete_dependents=True),
            "claim": lambda: rqd.claim(3, *QUEUES, nudge=True),
            "beat": lambda: rqd.beat(claims["runs"], workers=2),
            "hello": lambda: store.hello("other", "c", 15, {"workers": 1}),
            "take over": lambda: store.hello("gone", "c", 15, {"workers": 1}, "dead"),
            "bye": lambda: store.bye("m", "b", 2),
            "command": lambda: store.command({"id": "1", "do": "stop"}, ["m", "gone", "none"]),
            "empty": lambda: store.empty("low"),
            "pause": lambda: store.pause("low"),
            "pause all for a time": lambda: store.pause("{all}", 60),
            "resume": lambda: store.resume("low"),
            "resume all": lambda: store.resume("{all}"),
        }
        for decision in ("finish", "fail", "retry", "put_back", "lose", "stop"):
            for delay_us in (0, 5) if decision == "retry" else (0,):
                every[f"{decision} {delay_us}"] = lambda decision=decision, delay_us=delay_us: (  # type: ignore[misc]  # bound now
                    rqd.turn(
                        settlement(claims["runs"], decision, delay_us=delay_us, cause="why"),
                        settlement(claims["lost"], "finish", result=b"r" * 70_000),
                        settlement(claims["suspect"], decision, delay_us=delay_us, pid=1),
                        settlement(claims["holds"], decision, delay_us=delay_us, cause="why"),
                        free=2,
                        queues=QUEUES,
                    )
                )
        for name in (
            "next",
            "later",
            "runs",
            "finished",
            "failed",
            "canceled",
            "child",
            "member",
            *JOBS[-2:],
        ):
            every[f"cancel {name}"] = partial(store.cancel, name)
            every[f"delete {name}"] = partial(store.delete, name)
            every[f"requeue {name}"] = partial(store.requeue, name)
            every[f"stop {name}"] = partial(store.stop, name, "1", "a", 5)
            every[f"note {name}"] = partial(store.save_meta, name, b"m")
        return every


def shares(key: str, on_conflict: str = "refuse") -> str:
    """Terms of a job that has a unique key, and shares a limit of one at a time."""
    limit = RateLimit("k", 1, rate=1000, burst=1000)
    return dump_terms(
        {"unique": Unique(key, "finished", on_conflict).term(), "limit": limit.term()}
    )


def misplaced(rqd: Driver, ignoring: Iterable[str] = ()) -> dict[str, str]:
    """The jobs that are not in exactly the places their status says, and why; those ignored aside.

    A key that holds something else is read as empty, and nothing is said of who belongs there.
    """
    names, keys = rqd.redis.keys("*"), rqd.keys
    kinds = dict(zip(map(_text, names), _of_each(rqd, "type", names), strict=True))
    places = {keys.leases, keys.scheduled}
    for queue in QUEUES:
        places |= {keys.ready(queue), *(keys.index(queue, index) for index in INDEXES)}
    readable = {key for key in places if kinds.get(key, b"zset") == b"zset"}
    found: dict[str, set[str]] = {
        name.split("job:")[1]: set() for name in kinds if "job:" in name and name.count(":") == 2
    }
    for key, members in zip(readable, _of_each(rqd, "zrange", readable, 0, -1), strict=True):
        for raw in members:
            if raw.startswith(b":"):
                continue  # the end of a pause, among the due jobs
            found.setdefault(_text(raw), set()).add(key)
    ids = [*(found.keys() - set(ignoring))]
    records = [keys.job(job_id) for job_id in ids if kinds.get(keys.job(job_id)) == b"hash"]
    held = dict(zip(records, _of_each(rqd, "hmget", records, *_DECIDING), strict=True))
    wrong = {}
    for job_id in ids:
        status, queue = _place(*held.get(keys.job(job_id), (None, None, None)))
        if _expected(rqd, status, queue) & readable != found[job_id]:
            wrong[job_id] = f"{status} in {queue}, found in {sorted(found[job_id])}"
    return wrong


def _of_each(rqd: Driver, command: str, keys: Iterable[str | bytes], *arguments: Any) -> list[Any]:
    """The answers to one command on each key, in one round trip."""
    with rqd.redis.pipeline(transaction=False) as asked:
        for key in keys:
            getattr(asked, command)(key, *arguments)
        answers: list[Any] = asked.execute()
    return answers


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _place(status: bytes | None, queue: bytes | None, limit: bytes | None) -> tuple[str, str]:
    if status == b"queued" and limit is not None:
        status = b"limited"  # its index is named so
    return _text(status or b""), _text(queue or b"")


def _expected(rqd: Driver, status: str, queue: str) -> set[str]:
    keys = rqd.keys
    match status:
        case "":
            return set()
        case "queued":
            return {keys.ready(queue)}
        case "started":
            return {keys.index(queue, "started"), keys.leases}
        case "scheduled":
            return {keys.index(queue, "scheduled"), keys.scheduled}
        case "stopped":
            return {keys.index(queue, "failed")}
    return {keys.index(queue, status)}
