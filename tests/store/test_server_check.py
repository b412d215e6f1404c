"""Whether a server is fit for rqd, asked in one round trip."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from rqd.model.errors import ServerUnavailableError
from rqd.store.connection import client_connection
from rqd.store.server_check import check_server
from tests.servers import RedisServer


@pytest.fixture
def connection(every_server: RedisServer) -> redis.Redis:
    return client_connection(every_server.url)


@contextmanager
def setting(connection: Any, name: str, value: str) -> Iterator[None]:
    before = connection.config_get(name)
    connection.config_set(name, value)
    try:
        yield
    finally:
        connection.config_set(name, before[name])


def test_a_server_that_keeps_all_keys_is_fit(connection: redis.Redis) -> None:
    assert check_server(connection) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_policy_that_can_drop_jobs_is_warned_of(connection: redis.Redis, policy: str) -> None:
    with setting(connection, "maxmemory-policy", policy):
        (warning,) = check_server(connection)
        assert f"maxmemory-policy is {policy}; set it to noeviction" in warning
        assert "once maxmemory is set" in warning
        with setting(connection, "maxmemory", "1gb"):
            assert "when maxmemory is reached" in check_server(connection)[0]


def test_it_takes_one_round_trip(connection: Any) -> None:
    connection.config_resetstat()

    check_server(connection)

    stats = connection.info("commandstats")
    assert stats["cmdstat_info"]["calls"] == 2
    assert {name for name in stats if "config" not in name} == {"cmdstat_info"}


@pytest.mark.parametrize("version", ["2.8.24", "5.0.14", "6.0.20", "6.1.9"])
def test_a_server_that_is_too_old_is_refused(
    connection: redis.Redis, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, {"redis_version": version}, {})

    with pytest.raises(ServerUnavailableError, match=rf"Redis {version} is too old.*6\.2 or newer"):
        check_server(connection)


@pytest.mark.parametrize("version", ["6.2.0", "7.2.4", "10.0", "255.255.255", "unheard of"])
def test_a_newer_or_unheard_of_server_is_let_be(
    connection: redis.Redis, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, {"redis_version": version}, {})

    assert check_server(connection) == []


def test_a_user_who_may_not_ask_gets_no_warning(connection: Any, every_server: RedisServer) -> None:
    connection.execute_command("ACL", "SETUSER", "jobs", "on", ">pw", "~*", "+@all", "-info")
    try:
        url = every_server.url.replace("unix://", "unix://jobs:pw@")
        assert check_server(client_connection(url)) == []
    finally:
        connection.execute_command("ACL", "DELUSER", "jobs")


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str]) -> None:
    """No such old server can be had: its answers are put in place of the real one's."""
    monkeypatch.setattr(redis.client.Pipeline, "execute", lambda *_, **__: list(answers))
