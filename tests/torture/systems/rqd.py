"""rqd under torture: how it is started and asked, and what its keys say at the end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import psutil
import redis

from rqd import Queue, Retry
from rqd.cron import fetch, register
from rqd.group import Group
from rqd.job import Dependency
from rqd.model.cron import run_id
from rqd.store.scripts import load_script
from tests.daemons import ROOT
from tests.torture.calls import LIMIT, QUEUES, RECORD_TTL_S, Call
from tests.torture.history import Event
from tests.torture.systems import MasterSpec, function_of
from tests.torture.systems.rqd_state import final_state

_READY = re.compile(r"\bready queues=")
_REFUSED = re.compile(r"outcome refused .*verdict=stale")
_SCRIPTS = ("turn", "enqueue", "beat", "hello", "bye")
_MARK = "planted-"
# Where jobs are that have not come to their end.
_UNENDED = (
    "{rqd}:leases",
    "{rqd}:scheduled",
    *(f"{{rqd}}:queue:{q}{i}" for q in QUEUES for i in ("", ":deferred", ":limited")),
)
_MOST_TOLD = 5  # of each
_ENTRY, _EVERY_S = "torture", 5

# Read only: a lease without a started job that has a token, a job started without a lease, too many
# that hold a limit, and a holder that does not run.
_LOOK = """
local P, bad, seen = ARGV[1], {}, {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
  local held = redis.call('HMGET', P .. 'job:' .. id, 'status', 'lease', 'origin')
  if string.sub(id, 1, #ARGV[2]) ~= ARGV[2] then
    if held[1] ~= 'started' or not held[2] then
      bad[#bad + 1] = id .. ' is leased and ' .. (held[1] or 'gone')
    elseif seen[held[2]] then
      bad[#bad + 1] = id .. ' and ' .. seen[held[2]] .. ' have one token'
    else
      seen[held[2]] = id
    end
  end
end
for _, key in ipairs({ 'torture', 'paced' }) do
  local held = redis.call('ZRANGE', P .. 'limit:holders:' .. key, 0, -1)
  if #held > tonumber(ARGV[3]) then bad[#bad + 1] = #held .. ' hold the limit ' .. key end
  for _, id in ipairs(held) do
    if redis.call('HGET', P .. 'job:' .. id, 'status') ~= 'started' then
      bad[#bad + 1] = id .. ' holds a limit and does not run'
    end
  end
end
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
  for _, id in ipairs(redis.call('ZRANGE', P .. 'queue:' .. queue .. ':started', 0, -1)) do
    if not redis.call('ZSCORE', P .. 'leases', id) then
      bad[#bad + 1] = id .. ' is started without a lease'
    end
  end
end
return bad
"""


class RqdSender:
    """rqd's client."""

    def __init__(self, url: str) -> None:
        limit_bytes = 200 * 1024 * 1024
        self._queues = {q: Queue(q, url, payload_limit_bytes=limit_bytes) for q in QUEUES}

    def send(self, calls: Sequence[Call], ids: Sequence[str]) -> None:
        queue, first = self._queues[calls[0].queue], calls[0]
        if first.kind == "family":
            _send_family(queue, calls, ids)
            return
        if len(calls) > 1:
            named = zip(calls, ids, strict=True)
            queue.enqueue_many(
                [
                    queue.prepare_data(
                        function_of(call), (job_id, *call.args), **_options(call, job_id)
                    )
                    for call, job_id in named
                ]
            )
            return
        function, args, options = function_of(first), (ids[0], *first.args), _options(first, ids[0])
        if first.delay_s is not None:
            queue.enqueue_in(timedelta(seconds=first.delay_s), function, args=args, **options)
        else:
            queue.enqueue(function, args=args, **options)


def _send_family(queue: Queue, calls: Sequence[Call], ids: Sequence[str]) -> None:
    first = Dependency(ids[0], allow_failure=True)
    *jobs, last = (
        queue.prepare_data(
            function_of(call),
            (job_id, *call.args),
            depends_on=first if job_id not in (ids[0], ids[-1]) else None,
            **_options(call, job_id),
        )
        for call, job_id in zip(calls, ids, strict=True)
    )
    Group(queue.connection, ids[0]).enqueue_many(queue, jobs, then=last)


class Rqd:
    """rqd: two masters with a child a job, one whose children take twenty."""

    name = "rqd"
    masters = (
        MasterSpec("m1", ("--workers", "5", "--jobs-per-child", "1", "--grace", "2")),
        MasterSpec("m2", ("--workers", "5", "--jobs-per-child", "20", "--grace", "2")),
        MasterSpec("m3", ("--workers", "4", "--jobs-per-child", "1", "--grace", "0.2")),
    )
    # Its log is read; no proxy stands before the endpoint of its webhooks.
    env = MappingProxyType({"RQD_LOG_FORMAT": "text", "no_proxy": "127.0.0.1"})
    is_swept = False  # nothing of a job outlives a master: that is what is tested
    drain_s = 120.0
    scripts = MappingProxyType({name: load_script(name).sha for name in _SCRIPTS})

    def command(self, spec: MasterSpec, url: str) -> list[str]:
        command = [sys.executable, "-m", "rqd", "start", "--url", url, "--name", spec.name]
        command += ["--queues", ",".join(QUEUES), "--path", str(ROOT)]
        command += ["--payload-limit", "200M"]
        return [*command, "--preload", "tests.torture.workload", *spec.options]

    def is_ready(self, log: str) -> bool:
        return _READY.search(log) is not None

    def sender(self, url: str) -> RqdSender:
        return RqdSender(url)

    def begin_timetable(self, url: str) -> float:
        options: dict[str, Any] = {"missed": "all", "window": "31d", "result_ttl": RECORD_TTL_S}
        options |= {"failure_ttl": RECORD_TTL_S, "name": _ENTRY, "connection": url}
        entry = register("tests.torture.workload.called", interval=_EVERY_S, **options)
        # A master may have made the first run before the entry was read.
        first = entry.last_run or entry.next_run
        assert first is not None
        return first.timestamp()

    def end_timetable(self, url: str, first: float) -> dict[str, float]:
        fetch(_ENTRY, url).pause()
        entry = fetch(_ENTRY, url)
        entry.remove()
        last = entry.last_run.timestamp() if entry.last_run is not None else 0.0
        times = range(int(first), int(last) + 1, _EVERY_S)
        return {run_id(_ENTRY, at * 1_000_000): float(at) for at in times}

    def zygote(self, master: int) -> int | None:
        return next((p.pid for p in _children(master) if _title(p).startswith("rqd: zygote")), None)

    def children(self, master: int) -> list[int]:
        zygote = self.zygote(master)
        return [p.pid for p in _children(zygote)] if zygote else []

    def running(self, client: redis.Redis) -> int:
        count: Any = client.zcard("{rqd}:leases")
        return int(count)

    def waiting(self, client: redis.Redis) -> int:
        pipe = client.pipeline(transaction=True)
        for key in _UNENDED:
            pipe.zcard(key)
        return sum(pipe.execute())

    def left(self, client: redis.Redis) -> list[str]:
        told = []
        for key in _UNENDED:
            first: Any = client.zrange(key, 0, _MOST_TOLD)
            for job_id in (member.decode() for member in first):
                fields: Any = client.hmget(f"{{rqd}}:job:{job_id}", "func_name", "worker")
                what, worker = (field.decode() if field else "" for field in fields)
                told.append(f"{job_id} {what.rpartition('.')[2]} in {key} {worker}".rstrip())
        return told

    def breaches(self, client: redis.Redis) -> list[str]:
        found: Any = client.eval(_LOOK, 0, "{rqd}:", _MARK, LIMIT)
        return [line.decode() for line in found]

    def final_state(self, client: redis.Redis) -> Iterator[Event]:
        return final_state(client, "{rqd}:")

    def refusals(self, log: str) -> int:
        return len(_REFUSED.findall(log))


def _options(call: Call, job_id: str) -> dict[str, Any]:
    options: dict[str, Any] = {"job_id": job_id, "result_ttl": RECORD_TTL_S}
    options |= {"failure_ttl": RECORD_TTL_S, "job_timeout": call.timeout_s, **call.more}
    if call.retries:
        options["retry"] = Retry(call.retries, call.interval_s)
    if call.at_front:
        options["at_front"] = True
    return options


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
