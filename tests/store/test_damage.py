"""Whatever Redis holds, a script does its whole work or none, and no other job is lost by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from rqd.model.errors import RqdError
from tests.fuzzing import fuzz, time_limit_s
from tests.servers import RedisServer
from tests.store.scenes import JOBS, QUEUES, Scene, misplaced

PREFIX = "{rqd}:"
SHARED = ("queues", "nonempty", "counters", "leases", "scheduled", "masters")
OF_QUEUES = tuple(
    f"{kind}{queue}{index}"
    for queue in QUEUES
    for kind, index in (
        ("queue:", ""), ("queue:", ":started"), ("queue:", ":scheduled"), ("queue:", ":finished"),
        ("queue:", ":failed"), ("queue:", ":canceled"), ("stats:", ""), ("wake:queue:", ""),
    )
)  # fmt: skip
OF_LIMITS = (
    "limits", "limit:holders:k", "limit:state:k", "limit:queues:k", "limit:waiting:high,k",
    "unique:u", "unique:v", "queue:high:limited",
)  # fmt: skip
OF_MASTERS = (
    "master:m", "master:gone", "worker:m:1", "worker:m:2", "worker:gone:1", "control:m",
    "wake:master:m", "wake:master:gone", "turn:m",
)  # fmt: skip
OF_JOBS = tuple(
    f"job:{name}{part}"
    for name in JOBS
    for part in ("", ":results", ":payload", ":result", ":request")
)
FIELDS = (
    "status", "origin", "func_name", "payload", "serializer", "timeout", "result_ttl",
    "failure_ttl", "retries_left", "retries_used", "retry_intervals", "attempt", "losses", "score",
    "priority", "ttl", "due", "front", "created_at", "enqueued_at", "back_at", "started_at",
    "ended_at", "request", "lease", "settled", "worker", "cause", "beside", "payload_bytes",
    "terms", "limited",
)  # fmt: skip
COUNTERS = ("back", "front", "fence", "seen", "reap_after")
# A field that is gone, and what stands where a number or a word should.
GARBAGE = (
    None, b"", b"x", b"-1", b"0", b"1.5", b"0x10", b"nan", b"inf", b"-inf", b"1e300", b"-1e300",
    b"9223372036854775807", b"99999999999999999999", b"\xff\x00\r\n", b"queued", b"low", b" 5",
)  # fmt: skip
# What decides where a job belongs: who changes that by hand has misplaced it himself.
PLACING = {"status", "origin", "lease", "limited"}
TRANSITIONS = st.integers(0, 10**6)


def plant(redis: Any, key: str, kind: str) -> None:
    """Makes the key one of another kind."""
    redis.delete(key)
    match kind:
        case "string":
            redis.set(key, b"\xffnot rqd's")
        case "list":
            redis.rpush(key, "a", "b")
        case "hash":
            redis.hset(key, "a", "b")
        case "set":
            redis.sadd(key, "a", b"\xff")
        case "zset":
            redis.zadd(key, {"a": 1, b"\xff": float("inf")})
        case "stream":
            redis.xadd(key, {"a": "b"})


def perform(scene: Scene, number: int, by_rqd: bool = True) -> None:
    """Carries one transition out; if it is refused, nothing has changed.

    What `by_rqd` sends, a script answers itself: it doesn't fail half way.
    """
    names = sorted(every := scene.transitions())
    name = names[number % len(names)]
    note(name)
    before = scene.rqd.dump()
    refusal = ""
    try:
        every[name]()
    except (ResponseError, RqdError) as error:
        refusal = str(error)
    if not refusal:
        return
    note(refusal)
    now = scene.rqd.dump()
    # A large value waits beside the scripts for ten minutes, refused or not; a precedence of queues
    # is named by its content.
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    assert all(key.startswith((b"{rqd}:staged:", b"{rqd}:precedence:")) for key in changed), (
        name,
        refusal,
        changed,
    )
    assert not by_rqd or "user_script" not in refusal, (name, refusal)


@pytest.mark.timeout(time_limit_s(60))
@fuzz(60)
@given(
    st.sampled_from([*SHARED, *OF_QUEUES, *OF_LIMITS, *OF_MASTERS, *OF_JOBS]),
    st.sampled_from(["string", "list", "hash", "set", "zset", "stream"]),
    st.lists(TRANSITIONS, min_size=1, max_size=5),
)
def test_a_key_of_another_type_loses_no_job(
    server: RedisServer, name: str, kind: str, numbers: list[int]
) -> None:
    server.empty()
    scene = Scene(server.url)
    plant(scene.rqd.redis, PREFIX + name, kind)
    wrong = misplaced(scene.rqd)
    for number in numbers:
        perform(scene, number)
    # What the damage itself has misplaced may be found again; nothing else goes astray.
    assert misplaced(scene.rqd, wrong) == {}, name


@pytest.mark.timeout(time_limit_s(60))
@fuzz(60)
@given(
    st.sampled_from(JOBS),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(GARBAGE), min_size=1, max_size=3),
    st.lists(TRANSITIONS, min_size=1, max_size=5),
)
def test_a_job_with_damaged_fields_harms_no_other_and_is_not_lost(
    server: RedisServer, name: str, fields: dict[str, bytes | None], numbers: list[int]
) -> None:
    server.empty()
    scene = Scene(server.url)
    key = scene.rqd.keys.job(name)
    for field, value in fields.items():
        if value is None:
            scene.rqd.redis.hdel(key, field)
        else:
            scene.rqd.redis.hset(key, field, value)
    for number in numbers:
        perform(scene, number)
    assert misplaced(scene.rqd, [name] if PLACING & fields.keys() else []) == {}


@pytest.mark.timeout(time_limit_s(60))
@fuzz(30)
@given(
    st.dictionaries(st.sampled_from(COUNTERS), st.sampled_from(GARBAGE[1:]), min_size=1),
    st.lists(TRANSITIONS, min_size=1, max_size=5),
)
def test_damaged_counters_lose_no_job(
    server: RedisServer, counters: dict[str, bytes], numbers: list[int]
) -> None:
    server.empty()
    scene = Scene(server.url)
    scene.rqd.redis.hset(PREFIX + "counters", mapping=counters)
    for number in numbers:
        perform(scene, number)
    assert misplaced(scene.rqd) == {}


@pytest.mark.timeout(time_limit_s(60))
@fuzz(100)
@given(
    TRANSITIONS,
    st.lists(
        st.tuples(
            st.sampled_from(["replace", "drop", "insert"]),
            st.integers(0, 60),
            st.sampled_from([*GARBAGE[1:], b"999999999", b"3", b"finish", b"lose"]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_arguments_that_are_none_change_nothing_or_lose_nothing(
    server: RedisServer, number: int, changes: list[tuple[str, int, bytes]]
) -> None:
    server.empty()
    scene = Scene(server.url)
    send = scene.rqd.redis.execute_command

    def garbled(*command: Any, **options: Any) -> Any:
        if command[0] not in ("EVAL", "EVALSHA"):
            return send(*command, **options)
        arguments = list(command[4:])
        for how, at, value in changes:
            if not arguments:
                break
            at %= len(arguments)
            if how == "drop":
                del arguments[at]
            else:
                arguments[at : at + (how == "replace")] = [value]
        note(f"{arguments}")
        return send(*command[:4], *arguments)

    scene.rqd.redis.execute_command = garbled
    try:
        perform(scene, number, by_rqd=False)
    finally:
        scene.rqd.redis.execute_command = send
    # A garbled enqueue may make jobs of any name; those that were there stay where they belong.
    assert not misplaced(scene.rqd).keys() & set(JOBS)
