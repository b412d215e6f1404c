"""RQ 3 under the same torture: two pools of four, each kept as systemd would keep a unit."""

from __future__ import annotations

import base64
import math
import pickle
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import redis

from tests.daemons import ROOT
from tests.torture.calls import QUEUES, RECORD_TTL_S, Call
from tests.torture.history import Event
from tests.torture.systems import MasterSpec, function_of

_KINDS = {b"1": "successful", b"2": "failed", b"3": "failed", b"4": "retried"}
_BATCH = 500


class RqSender:
    """RQ's client. It takes whole seconds; a part of one counts as one."""

    def __init__(self, url: str) -> None:
        from rq import Queue

        connection = redis.Redis.from_url(url)
        self._queues = {name: Queue(name, connection=connection) for name in QUEUES}

    def send(self, calls: Sequence[Call], ids: Sequence[str]) -> None:
        from rq import Queue

        queue, first = self._queues[calls[0].queue], calls[0]
        if len(calls) > 1:
            named = zip(calls, ids, strict=True)
            queue.enqueue_many(
                [
                    Queue.prepare_data(
                        function_of(call), (job_id, *call.args), **_options(call, job_id)
                    )
                    for call, job_id in named
                ]
            )
            return
        function, args, options = function_of(first), (ids[0], *first.args), _options(first, ids[0])
        if "timeout" in options:
            options["job_timeout"] = options.pop("timeout")
        if first.delay_s is not None:
            queue.enqueue_in(timedelta(seconds=first.delay_s), function, args=args, **options)
        else:
            queue.enqueue(function, args=args, at_front=first.at_front, **options)


class Rq:
    """`rq worker-pool -n 4`, twice."""

    name = "rq"
    masters = (MasterSpec("m1"), MasterSpec("m2"))
    env = MappingProxyType({"RQD_TORTURE_PEER": "rq", "PYTHONPATH": str(ROOT)})
    scripts = MappingProxyType({"EXEC": "\r\nEXEC\r\n"})
    is_swept = True
    drain_s = 180.0

    def command(self, _spec: MasterSpec, url: str) -> list[str]:
        program = str(Path(sys.executable).parent / "rq")
        command = [program, "worker-pool", "-n", "4", "--url", url]
        return [*command, "--worker-class", "tests.torture.rq_worker.PreloadedWorker", *QUEUES]

    def is_ready(self, log: str) -> bool:
        return "Listening on" in log

    def sender(self, url: str) -> RqSender:
        return RqSender(url)

    def begin_timetable(self, _url: str, /) -> float:
        return 0.0  # RQ's is made by a process of its own

    def end_timetable(self, _url: str, _first: float, /) -> dict[str, float]:
        return {}

    def zygote(self, master: int) -> int | None:
        """One of the pool's workers, which fork for each job: the busiest, or the first."""
        workers = _workers(master)
        workers.sort(key=lambda worker: -len(_children(worker.pid)))
        return workers[0].pid if workers else None

    def children(self, master: int) -> list[int]:
        workers = _workers(master)
        return [p.pid for worker in workers for p in _children(worker.pid) if not _is_scheduler(p)]

    def running(self, client: redis.Redis) -> int:
        return _sum(client, [("zcard", f"rq:wip:{queue}") for queue in QUEUES])

    def waiting(self, client: redis.Redis) -> int:
        asked = [
            ("zcard", f"rq:{kind}:{queue}") for kind in ("wip", "scheduled") for queue in QUEUES
        ]
        asked += [("llen", f"rq:queue:{queue}") for queue in QUEUES]
        asked += [("llen", f"rq:queue:{queue}:intermediate") for queue in QUEUES]
        return _sum(client, asked)

    def left(self, _client: redis.Redis) -> list[str]:
        return []

    def breaches(self, _client: redis.Redis) -> list[str]:
        return []

    def final_state(self, client: redis.Redis) -> Iterator[Event]:
        names: Any = client.scan_iter("rq:job:*", count=5000)
        ids = [name.decode().removeprefix("rq:job:") for name in names]
        ids = [job_id for job_id in ids if ":" not in job_id]
        for start in range(0, len(ids), _BATCH):
            yield from _jobs(client, ids[start : start + _BATCH])

    def refusals(self, _log: str) -> int:
        return 0


def _options(call: Call, job_id: str) -> dict[str, Any]:
    from rq import Retry

    options: dict[str, Any] = {"job_id": job_id, "result_ttl": RECORD_TTL_S}
    options |= {"failure_ttl": RECORD_TTL_S, "meta": {"retries": call.retries}}
    if call.timeout_s:
        options["timeout"] = math.ceil(call.timeout_s)
    if call.retries:
        options["retry"] = Retry(call.retries, math.ceil(call.interval_s))
    return options


def _jobs(client: redis.Redis, ids: list[str]) -> Iterator[Event]:
    pipe = client.pipeline(transaction=False)
    for job_id in ids:
        pipe.hmget(f"rq:job:{job_id}", "status", "ended_at", "worker_name", "exc_info")
        pipe.pttl(f"rq:job:{job_id}")
        pipe.xrange(f"rq:results:{job_id}")
    answers = iter(pipe.execute())
    for job_id in ids:
        held, ttl_ms, entries = (next(answers) for _ in range(3))
        status, ended, _worker, _error = (value.decode() if value else "" for value in held)
        ends = [
            e for _, e in entries if _KINDS.get(e.get(b"type", b"")) in ("successful", "failed")
        ]
        last = ends[-1] if ends else {}
        error = last.get(b"exc_string", b"")
        yield {
            "ev": "job",
            "id": job_id,
            "status": status or "damaged",
            "records": len(ends),
            "result": _read_result(last.get(b"return_value")),
            "settled_fence": 0,
            "cause": _read_error(error) if status == "failed" else "",
            "pid": 0,
            "master": "",
            "ended": datetime.fromisoformat(ended).timestamp() if ended else 0,
            "losses": 0,
            "expires": ttl_ms > 0,
            "misplaced": "",
        }


def _read_result(value: bytes | None) -> str | None:
    if value is None:
        return None
    result = pickle.loads(base64.b64decode(value))
    return f"<{len(result)} bytes>" if isinstance(result, bytes) else str(result)[:200]


def _read_error(text: bytes) -> str:
    import zlib

    try:
        return zlib.decompress(base64.b64decode(text)).decode()[-300:]
    except (ValueError, zlib.error):
        return text.decode(errors="replace")[-300:]


def _sum(client: redis.Redis, asked: Sequence[tuple[str, str]]) -> int:
    pipe = client.pipeline(transaction=False)
    for command, key in asked:
        pipe.execute_command(command, key)
    return sum(pipe.execute())


def _workers(pool: int) -> list[psutil.Process]:
    return [process for process in _children(pool) if not _is_scheduler(process)]


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _is_scheduler(process: psutil.Process) -> bool:
    try:
        return "scheduler" in " ".join(process.cmdline()).lower()
    except psutil.Error:
        return True
