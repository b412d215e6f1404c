"""Held connections: the same answers and errors as on redis-py's way, each to whom it belongs."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd.model.errors import ServerUnavailableError
from rqd.store import fast_connection
from rqd.store.client import PlainClient
from rqd.store.connection import client_connection, daemon_connection
from tests.relay import Relay
from tests.servers import RedisServer
from tests.store.driving import Driver, job
from tests.store.test_connections import cut_connections

LONG = "x" * 1000
ANSWERS = (
    "{'ok', '1732559999123456'}",
    "{'', ''}",
    "{'a', 'b', 'c'}",
    "{'a'}",
    "{}",
    "{1, 'a'}",
    "{{'a', 'b'}, 'c'}",
    "{'a\\r\\nb', 'c'}",
    "{'$1\\r\\na', '\\r\\n'}",
    f"{{'{LONG}', 'b'}}",
    "'a'",
    "'1732559999123456'",
    "'173255999912345'",
    "'17325599991234567'",
    "'1732559999123456\\r\\n'",
    "17",
    "false",
    "redis.status_reply('fine')",
    "ARGV",
)


def asked(client: redis.Redis, script: str, *arguments: Any) -> Any:
    sha = client.script_load(script)
    return client.execute_command("EVALSHA", sha, 1, "{rqd}:queues", *arguments)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_any_shape_is_as_redis_py_reads_it(redis_url: str, answer: str) -> None:
    ours, plain = client_connection(redis_url), daemon_connection(redis_url)
    assert isinstance(ours, PlainClient)
    assert ours.held
    arguments = ("text", "käse", b"\xff\r\n", 17, -1, 1.5, b"", LONG * 100)

    expected = asked(plain, f"return {answer}", *arguments)
    for _ in range(2):
        assert asked(ours, f"return {answer}", *arguments) == expected


@pytest.mark.parametrize("argument", [None, True, [], "\udce9"])
def test_an_argument_that_redis_py_refuses_is_refused(redis_url: str, argument: Any) -> None:
    ours, plain = client_connection(redis_url), daemon_connection(redis_url)
    told = []
    for client in (plain, ours):
        with pytest.raises((redis.DataError, UnicodeEncodeError)) as caught:
            asked(client, "return 1", argument)
        told.append(type(caught.value))

    assert told[0] is told[1]
    assert asked(ours, "return ARGV[1]", "a") == b"a"


def test_an_error_leaves_a_connection_that_can_be_used(redis_url: str) -> None:
    ours = client_connection(redis_url)
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="no luck"):
            asked(ours, "return redis.error_reply('ERR no luck')")
        with pytest.raises(redis.exceptions.NoScriptError):
            ours.execute_command("EVALSHA", "0" * 40, 1, "{rqd}:queues")
        assert asked(ours, "return {'a', 'b'}") == [b"a", b"b"]


def test_enqueues_in_a_row_use_one_connection(redis_url: str) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")
    before = _local_ends(driver)

    for name in "bcd":
        driver.enqueue(name)
    driver.redis.script_flush()
    driver.enqueue("e")

    assert _local_ends(driver) == before
    assert len(before) == 1


def test_threads_that_enqueue_at_once_get_each_its_own_answer(redis_url: str) -> None:
    driver, wrong = Driver(redis_url), []

    def enqueue(who: int) -> None:
        for number in range(100):
            name = f"{who}-{number}"
            now_us = driver.enqueue(name)
            if int(driver.field(name, "created_at") or 0) != now_us:
                wrong.append(name)

    threads = [threading.Thread(target=enqueue, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not wrong
    assert len(driver.ready()) == 400


# Python since 3.12 warns of it where an earlier test has left a thread.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_uses_none_of_its_parents_connections(redis_url: str) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")
    (parents,) = _local_ends(driver)

    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            driver.enqueue("b")
            os.write(writing, repr(_local_ends(driver)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() not in ("", repr([parents]))
    os.waitpid(pid, 0)
    driver.enqueue("c")

    assert driver.ready() == ["a", "b", "c"]
    assert _local_ends(driver) == [parents]


def _local_ends(driver: Driver) -> list[int]:
    """What the held connections are to the kernel."""
    return [os.fstat(one._sock.fileno()).st_ino for one, _ in driver.redis.held._idle]


def test_an_interrupted_call_leaves_no_answer_for_the_next_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fast_connection, "_instant_answered", interrupt)
        with pytest.raises(KeyboardInterrupt):
            driver.enqueue("b")

    now_us = driver.enqueue("c")
    assert driver.record("c").created_us == now_us
    assert driver.ready() == ["a", "b", "c"]


def test_what_the_kernel_does_not_take_at_once_goes_behind_what_it_took() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        connection: Any = redis.Connection()
        connection._sock = ours
        told = os.urandom(4 * 1024 * 1024)
        heard = bytearray()

        def hear() -> None:
            while len(heard) < len(told):
                heard.extend(theirs.recv(100_000))

        hearing = threading.Thread(target=hear)
        hearing.start()
        fast_connection._send(connection, [told])
        hearing.join(10)

        assert heard == told


def test_a_connection_that_was_closed_while_it_idled_is_replaced_before_it_is_used(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")
    cut_connections(driver)
    monkeypatch.setattr(fast_connection, "_FRESH_S", 0)
    tried: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", tried.append)

    driver.enqueue("b")

    assert not tried
    assert driver.ready() == ["a", "b"]


def test_an_enqueue_whose_answer_is_late_is_sent_again_and_makes_one_job(
    own_server: RedisServer, tmp_path: Path
) -> None:
    with Relay(tmp_path / "relay.sock", own_server.socket_path) as relay:
        driver = Driver(f"{relay.url}?socket_timeout=0.3")
        driver.enqueue("a")
        relay.keep_back = b"the-one"

        now_us = driver.enqueue("the-one")

        assert relay.is_kept.is_set()
        relay.release.set()
        assert driver.record("the-one").created_us == now_us
        assert driver.ready() == ["a", "the-one"]


def test_a_server_that_never_answers_is_tried_three_times_and_told_of_in_one_line(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(f"{own_server.url}?socket_timeout=0.1")
    driver.enqueue("a")
    own_server.command("CLIENT PAUSE 3000 WRITE")
    sent: list[Any] = []
    send: Any = fast_connection._send

    def noted(connection: Any, packed: Any) -> None:
        sent.append(packed)
        send(connection, packed)

    monkeypatch.setattr(fast_connection, "_send", noted)

    with pytest.raises(ServerUnavailableError, match="does not answer in time"):
        driver.enqueue(job("b"))

    assert len(sent) == 3
    own_server.command("CLIENT UNPAUSE")
