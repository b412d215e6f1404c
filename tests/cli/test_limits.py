"""`rqd limits`, and the limits of `rqd enqueue`."""

from __future__ import annotations

import json

from rqd import Queue
from rqd.client.connection import backend_for
from tests.cli.running import rqd
from tests.client.performing import claim


def test_limits_are_listed_with_who_holds_them_and_who_waits(redis_url: str) -> None:
    backend = backend_for(redis_url)
    for queue in ("low", "low", "high"):
        rqd("enqueue", "-q", queue, "--limit", "api v2:1", "builtins.len", ":[]", url=redis_url)
    for _ in range(2):
        rqd("enqueue", "-q", "low", "--limit", "sms:1/20m", "builtins.len", ":[]", url=redis_url)
    held = claim(backend, "high", "low", count=4)

    api, sms = json.loads(rqd("limits", "--json", url=redis_url).out)

    assert (api["key"], api["concurrency"], api["rate_per_s"]) == ("api v2", 1, None)
    assert (api["holders"], api["waiting"]) == ([held[0].id], {"low": 2})
    assert (sms["rate_per_s"], sms["burst"], sms["waiting"]) == (0.000833, 1, {"low": 1})
    assert sms["next_token"] is not None
    table = rqd("limits", url=redis_url).out
    for shown in ("api v2", "1/1", held[0].id[:8], "3/h, burst 1", "in 1", "low"):
        assert shown in table, shown
    waits = Queue("low", backend).job_ids[0]
    assert "limited_by:   api v2" in rqd("job", waits, url=redis_url).out


def test_no_limits_are_none(redis_url: str) -> None:
    assert rqd("limits", url=redis_url).out == "Limits\n  none\n"


def test_a_unique_key_is_refused_in_one_line(redis_url: str) -> None:
    arguments = ("enqueue", "--unique", "report", "builtins.len", ":[]")
    first = rqd(*arguments, url=redis_url).out.strip()

    second = rqd(*arguments, url=redis_url)

    assert second.status == 69
    assert f"job {first} has the unique key 'report'" in second.err
    assert rqd("enqueue", "--limit", "2", "builtins.len", url=redis_url).status == 64
