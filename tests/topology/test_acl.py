"""`rqd acl`: a user of these permissions can do all that rqd does, and nothing in them is idle."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd import Queue
from rqd.client.connection import backend_for
from rqd.exceptions import RqdError, ServerUnavailableError
from rqd.model.filter import Filter
from rqd.store.keys import ALL_QUEUES
from rqd.store.live import ask
from rqd.store.permissions import acl_lines
from rqd.store.search import Search
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.servers import RedisServer
from tests.store.driving import Driver, in_group, job, settlement, waits_for
from tests.waiting import eventually, has_text

EX_USAGE, EX_UNAVAILABLE = 64, 69


@cache
def printed_for(url: str) -> list[str]:
    """The words of the command that makes the user, with a password."""
    printed = rqd("acl", "--url", url)
    assert printed.status == 0, printed.err
    (line,) = printed.out.splitlines()
    return [word.replace(">PASSWORD", ">pw") for word in shlex.split(line)]


def set_user(server: RedisServer, *rules: str) -> str:
    """Makes the printed user, with further rules; returns the URL of its login."""
    admin: Any = redis.Redis.from_url(server.url)
    admin.execute_command(*printed_for(server.url), *rules)
    return server.url.replace("unix://", "unix://rqd:pw@")


@pytest.fixture
def limited_url(every_server: RedisServer) -> Iterator[str]:
    """The login of the printed user."""
    yield set_user(every_server)
    redis.Redis.from_url(every_server.url).acl_deluser("rqd")


def test_a_daemon_a_client_and_the_command_line_work_with_the_printed_user(
    limited_url: str, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--name", "alpha", url=limited_url, workers=2)
    queue = Queue(connection=backend_for(limited_url))

    done = queue.enqueue(jobs.multiply, 6, 7)
    failed = queue.enqueue(jobs.fail)
    large = queue.enqueue(jobs.echo, "x" * 200_000)

    for one in (done, failed, large):
        assert one.latest_result(timeout=10)
    assert large.return_value() == "x" * 200_000
    failed.requeue()
    assert rqd("info", url=limited_url).status == 0
    assert rqd("job", done.id, url=limited_url).status == 0
    ran = rqd("enqueue", "tests.jobs.multiply", ":6", ":7", "--wait", url=limited_url)
    assert (ran.status, ran.out) == (0, "42\n")
    assert rqd("stop", url=limited_url).status == 0
    assert daemon.wait() == 0
    assert "denie" not in daemon.log()


def test_the_printed_user_sees_no_other_namespace(limited_url: str) -> None:
    driver = Driver(limited_url, namespace="billing")

    with pytest.raises(ServerUnavailableError, match="denies"):
        driver.enqueue("a")


def everything(driver: Driver) -> list[Callable[[], Any]]:
    """Something of all that clients, masters and the command line ask of Redis."""
    held: list[Any] = []
    large = b"x" * 70_000

    def claim(count: int) -> None:
        held[:] = driver.claim(count)

    def settle_each(*decisions: str) -> None:
        made = [
            settlement(one, decision, delay_us=1_000_000 if decision == "retry" else 0)
            for one, decision in zip(held, decisions, strict=False)
        ]
        driver.turn(*made)

    def reaped() -> None:
        driver.expire_leases(*(one.id for one in held))
        driver.beat(master="n")

    views, store = driver.views, driver.store
    many = [f"q{number}" for number in range(40)]
    return [
        lambda: store.hello("m", "b", 15, {"state": "idle"}),
        lambda: store.hello("dead", "b", 15, {"state": "idle"}),
        driver.beat,
        lambda: driver.enqueue("a", job("later", delay_us=1), job("big", payload=large)),
        lambda: driver.enqueue(job("c", ttl_s=30), "d", "e", "f", request="again"),
        lambda: driver.enqueue(job("c", ttl_s=30), "d", "e", "f", request="again"),
        lambda: driver.redis.rpush(f"{driver.keys.prefix}control:m", "no command"),
        lambda: store.command({"id": "1", "do": "stop"}, ["m"]),
        lambda: store.answer("1", "m", "{}", 60),
        lambda: ask(store, views, {"id": "1", "do": "stop"}, ["m"], 0.1),
        driver.beat,
        lambda: claim(4),
        lambda: driver.beat(*held, obeyed="1"),
        lambda: settle_each("finish", "fail", "retry", "put_back"),
        lambda: claim(2),
        lambda: driver.turn(settlement(held[0], "finish", result=large)),
        reaped,
        lambda: driver.redis.bzpopmin(driver.keys.wake_queue("low"), 0.01),
        lambda: driver.redis.zadd(driver.keys.wake_queue("low"), {"look": 0}),
        lambda: store.fetch_payload("big", 1_000_000),
        lambda: [store.requeue(name) for name in ("a", "later", "c", "big")],
        lambda: store.save_meta("d", b"x"),
        lambda: store.save(job("saved"), store.request_id()),
        lambda: [store.cancel(name) for name in ("d", "e", "f")],
        lambda: store.delete("d"),
        lambda: [views.jobs(["a"]), views.queue_names(), views.queue_counts(["low"])],
        lambda: views.workers(views.masters()),
        lambda: [views.attempts("a"), views.index_ids("low", "failed")],
        lambda: [views.position("low", "a"), views.ready_ids("low"), views.queued_count("low")],
        lambda: views.wait_for_end("f", 0.01),
        lambda: views.wait_for_end("later", 0.01),
        lambda: [views.index_ids("low", "failed", desc=True), views.heartbeat_us("m")],
        lambda: [store.unlist("low", "canceled", "e"), store.tidy("low", "canceled")],
        lambda: [Search(store).page(Filter("failed")), views.latest_ended_ids("low", "failed", 9)],
        lambda: store.empty("low"),
        lambda: store.forget_queue("nothing"),
        lambda: driver.enqueue(*(job(f"in-{name}", name) for name in many)),
        lambda: driver.claim(1, *many),
        lambda: driver.enqueue(job("p", "kin", terms=in_group("g"))),
        lambda: driver.enqueue(
            job("k", "kin", terms=waits_for("p")), job("l", "kin", terms=waits_for("group:g"))
        ),
        lambda: driver.settle(driver.claim(1, "kin")[0]),
        lambda: store.pause(ALL_QUEUES),
        lambda: store.bye("m", "b", 1),
    ]


COMMANDS = sorted(
    word[1:] for word in acl_lines("rqd", "rqd", "redis://h")[0][1].split() if word.startswith("+")
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_needed(server: RedisServer, redis_url: str, command: str) -> None:
    url = set_user(server, f"-{command}")
    admin: Any = redis.Redis.from_url(redis_url)
    admin.acl_log_reset()
    admin.script_flush()
    driver = Driver(url)

    for step in everything(driver):
        with suppress(redis.RedisError, RqdError, AssertionError, IndexError, TypeError):
            step()

    denied = {entry["object"].lower() for entry in admin.acl_log(1000)}
    assert command in denied
    admin.acl_deluser("rqd")


def test_nothing_else_is_needed(server: RedisServer, redis_url: str) -> None:
    url = set_user(server)
    admin: Any = redis.Redis.from_url(redis_url)
    admin.acl_log_reset()
    admin.script_flush()

    for step in everything(Driver(url)):
        step()

    assert admin.acl_log(1000) == []
    admin.acl_deluser("rqd")


def test_a_master_that_may_not_run_all_says_what_before_it_begins(
    every_server: RedisServer,
) -> None:
    url = set_user(every_server, "-zrem", "-hincrby")

    ran = rqd("start", "--burst", url=url)

    assert ran.status == EX_UNAVAILABLE
    assert "denies our user these commands on {rqd}:*: hincrby, zrem (`rqd acl` prints" in ran.err
    assert not redis.Redis.from_url(every_server.url).keys("*")
    redis.Redis.from_url(every_server.url).acl_deluser("rqd")


@pytest.mark.parametrize("arguments", [["info"], ["enqueue", "tasks.f"], ["start"]])
def test_a_denied_command_is_one_line_that_names_it(
    every_server: RedisServer, arguments: list[str]
) -> None:
    url = set_user(every_server, "-evalsha", "-eval", "-smembers")

    ran = rqd(*arguments, url=url)

    assert ran.status == EX_UNAVAILABLE
    assert "denies a command" in ran.err
    assert any(name in ran.err for name in ("'evalsha'", "'eval'", "'smembers'"))
    assert ran.err.count("\n") == 1
    redis.Redis.from_url(every_server.url).acl_deluser("rqd")


def test_a_daemon_lives_through_a_change_of_its_permissions(
    server: RedisServer, redis_url: str, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    url = set_user(server)
    daemon = start_daemon(url=url)
    queue = Queue(connection=redis_url)
    history, fifo = tmp_path / "history", tmp_path / "fifo"
    os.mkfifo(fifo)
    held = queue.enqueue(jobs.note_and_hold, str(history), str(fifo))
    eventually(lambda: has_text(history), 10.0)
    admin: Any = redis.Redis.from_url(redis_url)
    admin.execute_command("ACL", "SETUSER", "rqd", "-evalsha", "-eval", "-bzpopmin")

    fifo.write_text("")  # it ends now, and can't be recorded
    eventually(lambda: "redis is gone" in daemon.log(), 10.0, daemon.log)
    assert held.is_started
    admin.execute_command("ACL", "SETUSER", "rqd", "+evalsha", "+eval", "+bzpopmin")

    eventually(lambda: held.is_finished, 5.0, daemon.log)
    assert history.read_text() == "started\n"
    # Redis has it before the daemon has the answer, which goes with the user.
    eventually(lambda: "redis is back" in daemon.log(), 10.0, daemon.log)
    admin.acl_deluser("rqd")
    eventually(lambda: daemon.log().count("redis is gone") == 2, 10.0, daemon.log)
    set_user(server)
    assert queue.enqueue(jobs.multiply, 6, 7).latest_result(timeout=5)
    assert daemon.stop() == 0
    admin.acl_deluser("rqd")


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("redis://h/3", "+select"),
        ("redis+cluster://h", "+cluster|slots"),
        ("redis+sentinel://h/jobs", "+sentinel|get-master-addr-by-name"),
    ],
)
def test_the_lines_fit_the_url(url: str, rule: str) -> None:
    assert rule in rqd("acl", "--url", url).out
    assert rule not in rqd("acl", "--url", "redis://h").out


def test_options_of_acl() -> None:
    ran = rqd(
        *("acl", "--namespace", "mail", "--user", "me", "--wait-replicas", "--wait-aof"),
        url="redis://h",
    )
    words = ran.out.split()
    assert words[:3] == ["ACL", "SETUSER", "me"]
    assert {"~{mail}:*", "+wait", "+waitaof", "-@all", ">PASSWORD"} <= set(words)
    assert rqd("acl", "--user", "a b", url="redis://h").status == EX_USAGE
