"""`python -m benchmarks.searching [JOBS]`: how long searches through many failed jobs last.

Needs some 700 bytes of memory a job, for the server of its own that it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from benchmarks.server import Server, started_server
from rqd.model.filter import Filter
from rqd.store.bulk import DELETE, RETRY, Bulk
from rqd.store.connection import client_connection
from rqd.store.search import Search
from rqd.store.store import Store

_JOBS = 1_000_000
_AT_ONCE = 10_000
_TO_CHANGE = 20_000
_SLOW_US = 5_000
# Fields as the scripts leave them on a failed job: 20 functions, 140 groups, a failure a ms.
_FILL = """
local first, last, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local year_us = 31536000000000
for i = first, last do
  local id = string.format('%08x-0000-4000-8000-%012x', (i * 2654435761) % 4294967296, i)
  local at = string.format('%d', now - i * 1000)
  redis.call('HSET', '{rqd}:job:' .. id, 'status', 'failed', 'origin', 'low',
    'func_name', 'shop.tasks.f' .. i % 20, 'cause', 'raised shop.errors.Bad: order ' .. i,
    'frame', 'shop/tasks.py:' .. i % 7 .. ' send', 'host', 'web' .. i % 4, 'worker', 'm:1',
    'created_at', at, 'enqueued_at', at, 'started_at', at, 'ended_at', at, 'attempt', '1',
    'timeout', '180', 'result_ttl', '500', 'failure_ttl', '31536000', 'serializer', 'pickle',
    'description', 'shop.tasks.f(' .. i .. ')', 'payload', string.rep('x', 60))
  local expires = string.format('%d', now + year_us - i * 1000)
  redis.call('ZADD', '{rqd}:queue:low:failed', expires, id)
  redis.call('ZADD', '{rqd}:by-end:failed:low', at, id)
end
redis.call('SADD', '{rqd}:queues', 'low')
"""


def main() -> None:
    """Prints a table: what was asked, how long it took, and the server's longest step."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else _JOBS
    with started_server() as server:
        store = Store(client_connection(server.url))
        fill(server, jobs)
        print(f"{jobs:,} failed jobs, {server.version()}, {_memory_mb(server):,} MB")
        print(f"{'':<44}{'ms':>9}{'longest step, ms':>19}{'steps over 5 ms':>18}")
        for name, ask in cases(store):
            ask_and_print(server, name, ask)


def fill(server: Server, jobs: int) -> None:
    """Writes so many failed jobs of one queue."""
    seconds, _ = server.client.time()  # type: ignore[misc]  # redis-py's: of both kinds of client
    for first in range(0, jobs, _AT_ONCE):
        last = min(first + _AT_ONCE, jobs) - 1
        server.client.eval(_FILL, 0, str(first), str(last), str(int(seconds) * 1_000_000))


def cases(store: Store) -> list[tuple[str, Callable[[], Any]]]:
    """Returns the searches, by name."""
    search, bulk = Search(store), Bulk(store)
    rare = Filter(function="shop.tasks.f7", cause="order 777")

    def page(wanted: Filter, cursor: str = "") -> Callable[[], Any]:
        return lambda: search.page(wanted, cursor, budget_s=None)

    def change(act: str) -> Callable[[], Any]:
        steps = bulk.steps(act, Filter())
        return lambda: next(one for one in steps if one.done >= _TO_CHANGE)

    return [
        ("the first page", page(Filter())),
        ("the first page of a function", page(Filter(function="shop.tasks.f7"))),
        ("the first page of an hour", page(Filter(since="1h"))),
        ("a page from the middle", page(Filter(), _middle(search))),
        ("a page of a rare cause", page(rare)),
        ("all, by a rare cause", lambda: search.count(rare)),
        ("all, by a cause that none has", lambda: search.count(Filter(cause="no such"))),
        ("all, by host", lambda: search.count(Filter(host="web2"))),
        ("all, by the beginning of an id", lambda: search.count(Filter(id="3f"))),
        ("a rare cause in the last 100 seconds", lambda: search.count(replace(rare, since="100s"))),
        ("all, counted", lambda: search.count(Filter())),
        ("all, in groups", lambda: search.failure_groups(Filter(), None)),
        (f"{_TO_CHANGE:,} retried", change(RETRY)),
        (f"{_TO_CHANGE:,} deleted", change(DELETE)),
    ]


def _middle(search: Search) -> str:
    """Returns a cursor behind half of the jobs."""
    wanted, cursor = Filter(), ""
    total = search.page(wanted, limit=1).total
    while (page := search.page(wanted, cursor, 400, None)).looked_at < total // 2:
        cursor = page.cursor
    return cursor


def ask_and_print(server: Server, name: str, ask: Callable[[], Any]) -> None:
    """Times a search, and reads the server's log of slow commands for its steps."""
    server.client.config_set("slowlog-log-slower-than", 100)
    server.client.config_set("slowlog-max-len", 100_000)
    server.client.slowlog_reset()
    began = perf_counter()
    ask()
    took_ms = (perf_counter() - began) * 1000
    log: Any = server.client.slowlog_get(100_000)
    steps = [one["duration"] for one in log if one["command"].startswith(b"EVAL")]
    over = sum(one > _SLOW_US for one in steps)
    print(f"{name:<44}{took_ms:>9,.1f}{max(steps, default=0) / 1000:>19,.1f}{over:>18,}")


def _memory_mb(server: Server) -> int:
    info: Any = server.client.info("memory")
    return int(info["used_memory"]) // 2**20


if __name__ == "__main__":
    main()
