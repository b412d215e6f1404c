"""Connections against real servers: what becomes of settings, logins and shapes of answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd.model.errors import ServerUnavailableError
from rqd.store.connection import client_connection, daemon_connection, translate_errors, url_of
from rqd.store.queries import Queries
from rqd.store.store import Store
from tests.servers import RedisServer, default_binary, running_server
from tests.store.driving import Driver, job


@pytest.fixture(scope="module")
def locked_server() -> Iterator[RedisServer]:
    """A server that asks for a password, `s e:cret`, which no URL holds unquoted."""
    with running_server(default_binary()) as server:
        server.command('CONFIG SET requirepass "s e:cret/@"')
        yield server


@pytest.mark.parametrize(
    "query", ["", "?protocol=3", "?decode_responses=True", "?protocol=3&decode_responses=1"]
)
def test_answers_have_one_shape_whatever_the_url_says(redis_url: str, query: str) -> None:
    walk_through(Driver(redis_url + query))


@pytest.mark.parametrize(
    "settings",
    [
        {"decode_responses": True},
        {"protocol": 3},
        {"protocol": 3, "decode_responses": True, "encoding": "latin-1"},
        {"socket_timeout": None},
        {"single_connection_client": True},
    ],
)
def test_answers_have_one_shape_whatever_the_users_client_is(
    redis_url: str, settings: dict[str, Any]
) -> None:
    try:
        theirs = redis.Redis(unix_socket_path=redis_url.removeprefix("unix://"), **settings)
        theirs.ping()
    except ValueError as error:
        pytest.skip(f"this redis-py has no such client: {error}")
    with theirs:
        driver = Driver(redis_url)
        driver.store = Store(client_connection(theirs))
        driver.redis, driver.views = driver.store.redis, Queries(driver.store)
        walk_through(driver)
        theirs.ping()  # it is theirs, and still open


def walk_through(driver: Driver) -> None:
    driver.enqueue(job("a", delay_us=0), "b")
    driver.settle(driver.claim_one())
    driver.views.wait_for_end("b", 0.01)
    assert driver.views.queue_counts(["low"])[0].ready == 1
    assert driver.views.attempts("b") or driver.views.attempts("a")
    driver.beat()
    assert [row["name"] for row in driver.views.masters()] == ["m"]


def test_a_wait_is_renewed_before_the_users_own_socket_timeout_ends_it(redis_url: str) -> None:
    driver = Driver(f"{redis_url}?socket_timeout=0.5")
    driver.enqueue("a")

    with driver.redis.monitor() as monitor:
        driver.views.wait_for_end("a", 0.6)
        driver.redis.ping()
        asked = list(iter(lambda: monitor.next_command()["command"], "PING"))

    block_ms = [int(one.split()[4]) for one in asked if one.startswith("XREAD")]
    assert len(block_ms) > 1
    assert max(block_ms) < 500


def test_the_daemon_waits_half_a_second_whatever_the_url_says(redis_url: str) -> None:
    pool = daemon_connection(f"{redis_url}?socket_timeout=60&socket_connect_timeout=9")

    settings = pool.connection_pool.connection_kwargs
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (0.5, 0.5)


def test_the_url_of_a_client_leads_to_the_same_database_with_the_same_login(
    locked_server: RedisServer,
) -> None:
    theirs = redis.Redis(
        unix_socket_path=str(locked_server.socket_path), password="s e:cret/@", db=3
    )
    theirs.set("here", "yes")

    assert redis.Redis.from_url(url_of(theirs)).get("here") == b"yes"


@pytest.mark.parametrize(
    ("client", "url"),
    [
        (redis.Redis("h", 1, db=2), "redis://h:1/2"),
        (redis.Redis("h", password="p/w"), "redis://:p%2Fw@h:6379/0"),
        (redis.Redis("h", username="u", password="p"), "redis://u:p@h:6379/0"),
        (redis.Redis("h", ssl=True, ssl_check_hostname=True), "rediss://h:6379/0"),
        (redis.Redis("::1"), "redis://[::1]:6379/0"),
        (redis.Redis(unix_socket_path="/a b/s"), "unix:///a%20b/s?db=0"),
    ],
)
def test_the_url_of_a_client(client: redis.Redis, url: str) -> None:
    assert url_of(client) == url
    again = client_connection(url).connection_pool.connection_kwargs
    for name in ("host", "path", "username", "password"):
        assert again.get(name) == client.connection_pool.connection_kwargs.get(name)


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
def test_a_refused_login_is_one_clear_line_without_the_password(
    locked_server: RedisServer, login: str
) -> None:
    url = locked_server.url.replace("unix://", f"unix://{login}")

    with (
        pytest.raises(ServerUnavailableError, match="refused the password or user") as caught,
        translate_errors(url),
    ):
        client_connection(url).ping()

    assert "wrong@" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nothing.sock"

    with (
        pytest.raises(ServerUnavailableError, match=r"no Redis at .*nothing\.sock .*is it running"),
        translate_errors(url),
    ):
        client_connection(url).ping()


def test_a_denied_command_is_one_clear_line(own_server: RedisServer) -> None:
    own_server.command("ACL SETUSER jobs on >pw ~* +@all -ping")
    url = own_server.url.replace("unix://", "unix://jobs:pw@")

    with pytest.raises(ServerUnavailableError, match="denies a command"), translate_errors(url):
        client_connection(url).ping()


def test_a_full_server_is_one_clear_line(own_server: RedisServer) -> None:
    own_server.command("CONFIG SET maxmemory 1")

    with (
        pytest.raises(ServerUnavailableError, match="accepts no writes"),
        translate_errors(own_server.url),
    ):
        Driver(own_server.url).enqueue("a")


def test_the_readers_end_of_our_output_is_not_called_a_lost_server() -> None:
    with pytest.raises(BrokenPipeError), translate_errors("redis://h"):
        raise BrokenPipeError


def test_scripts_are_sent_again_after_the_server_forgot_them(redis_url: str) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")
    driver.redis.script_flush()

    driver.enqueue("b")

    assert driver.ready() == ["a", "b"]


def test_a_call_is_sent_again_after_a_lost_connection(redis_url: str) -> None:
    driver = Driver(redis_url)
    driver.enqueue("a")
    killed = cut_connections(driver)

    driver.enqueue("b")

    assert killed
    assert driver.ready() == ["a", "b"]


def cut_connections(driver: Driver) -> int:
    """Ends the driver's connections from the server's side."""
    return int(Driver(driver.url).redis.client_kill_filter(_type="normal", skipme=True))
