"""What a URL means; nothing here connects."""

import pytest
import redis
from redis.sentinel import Sentinel

from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.store.connection import (
    client_connection,
    hide_password,
    translate_errors,
    url_of,
)
from rqd.store.urls import Target, default_namespace, default_url, read_url


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "redis://localhost:6379"),
        ({"REDIS_URL": "redis://a"}, "redis://a"),
        ({"REDIS_URL": "redis://a", "RQD_URL": "redis://b"}, "redis://b"),
        ({"REDIS_URL": "redis://a", "RQD_URL": ""}, "redis://a"),
    ],
)
def test_the_url_comes_from_the_environment(
    environment: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RQD_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert default_url() == url


def test_the_namespace_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RQD_NAMESPACE", raising=False)
    assert default_namespace() == "rqd"
    monkeypatch.setenv("RQD_NAMESPACE", "billing")
    assert default_namespace() == "billing"


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost", "localhost:6379", "http://h", "redis://", "redis:///0", "unix://"),
        *("redis://h/jobs", "rediss://h/0/1", "redis://h/-"),
        *("redis://h:port", "redis://h:99999", "redis://[::1", "redis://h/0?db=x", "rediss:h"),
        *("redis://h?socket_timeout=soon", "redis://h?health_check_interval=x"),
        *("redis+sentinel://h", "redis+sentinel:///jobs", "redis+sentinel://h,/jobs"),
        *("redis+sentinel://h:x/jobs", "redis+sentinel://h/jobs/2", "unix+sentinel://h/jobs"),
        *("redis+cluster://", "redis+cluster://h/1", "redis+cluster://h?db=1", "redis+ring://h"),
        *("redis+cluster://h?no_such=1", "rediss+cluster://h?ssl_keyfile=/no/such"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL") as caught:
        client_connection(url)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@h",
        "redis+sentinel://u:secret/word@h/jobs",
        "redis+sentinel://u:se@secret/@h/jobs",
        "redis+cluster://u:secret#word@h",
        "redis+cluster://u:[secret@[::1]:7",
        "redis://:s@?secret@h=1",
    ],
)
def test_a_refused_url_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_connection(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:se@cret@h/0", "redis://u:***@h/0"),
        ("unix://u:secret@/a/b?db=1", "unix://u:***@/a/b?db=1"),
        ("redis://h/0?password=secret", "redis://h/0?password=***"),
        ("redis://[::1", "(unreadable URL)"),
        # Not encoded as it must be, and so in no part of a URL where a password is.
        ("redis://:se/cr:et@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:s#ecr@et@h/0", "redis://u:***@h/0"),
        ("redis://u:s?ecret@h/0?db=1", "redis://u:***@h/0?db=1"),
        ("redis://:s@e/cret@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:s@e#cret@h/0", "redis://u:***@h/0"),
        ("redis://u:s@e?cret@h/0?db=1", "redis://u:***@h/0?db=1"),
        ("redis+cluster://u:s@e/cret@h:1,g", "redis+cluster://u:***@h:1,g"),
        ("embedded:/a", "embedded:/a"),
        ("redis+sentinel://u:secret@h:1,g/jobs", "redis+sentinel://u:***@h:1,g/jobs"),
        ("redis+sentinel://u:secret@h,[::1]/jobs", "redis+sentinel://u:***@h,[::1]/jobs"),
        (
            "redis+sentinel://h/jobs?sentinel_password=secret&db=1",
            "redis+sentinel://h/jobs?sentinel_password=***&db=1",
        ),
        ("rediss://h/0?ssl_password=secret", "rediss://h/0?ssl_password=***"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_a_client_waits_as_long_as_its_url_says() -> None:
    patient = client_connection("redis://h?socket_timeout=60").connection_pool.connection_kwargs
    usual = client_connection("redis://h").connection_pool.connection_kwargs

    assert (patient["socket_timeout"], patient["socket_connect_timeout"]) == (60, 2)
    assert (usual["socket_timeout"], usual["socket_connect_timeout"]) == (5, 2)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://h", Target("redis://h")),
        ("unix:///a/b?db=1", Target("unix:///a/b?db=1")),
        (
            "redis+sentinel://u:p%2Fw@h,[::1]:1/jo%62s?sentinel_password=x&sentinel_username=y&db=2",
            Target(
                "redis://u:p%2Fw@h:26379?db=2",
                "sentinel",
                (("h", 26379), ("::1", 1)),
                "jobs",
                {"username": "y", "password": "x"},
            ),
        ),
        (
            "rediss+cluster://[::1]:7,h/0?ssl_check_hostname=0",
            Target("rediss://[::1]:7/0?ssl_check_hostname=0", "cluster", (("::1", 7), ("h", 6379))),
        ),
        (
            "redis+cluster://u:p@[::1],[::2]:7",
            Target("redis://u:p@[::1]:6379", "cluster", (("::1", 6379), ("::2", 7))),
        ),
    ],
)
def test_what_a_url_means(url: str, target: Target) -> None:
    assert read_url(url) == target


@pytest.mark.parametrize(
    ("client", "url"),
    [
        (
            redis.Redis(
                "h",
                ssl=True,
                ssl_check_hostname=True,  # by default only from redis-py 6 on
                ssl_certfile="/c",
                ssl_keyfile="/k",
                ssl_ca_certs="/a",
            ),
            "rediss://h:6379/0?ssl_certfile=%2Fc&ssl_keyfile=%2Fk&ssl_ca_certs=%2Fa",
        ),
        (
            redis.Redis("h", ssl=True, ssl_cert_reqs="none"),
            "rediss://h:6379/0?ssl_cert_reqs=none",
        ),
        (
            redis.Redis("h", ssl=True, ssl_check_hostname=False),
            "rediss://h:6379/0?ssl_check_hostname=0",
        ),
        (
            Sentinel([("a", 1), ("::1", 2)], sentinel_kwargs={"password": "s"}).master_for(
                "jobs", password="p", db=3
            ),
            "redis+sentinel://:p@a:1,[::1]:2/jobs?db=3&sentinel_password=s",
        ),
    ],
)
def test_the_url_of_a_users_client_says_how_to_reach_the_same(
    client: redis.Redis, url: str
) -> None:
    assert url_of(client) == url


def test_the_name_in_a_certificate_is_compared_unless_told_otherwise() -> None:
    def checks(query: str) -> object:
        pool = client_connection(f"rediss://h{query}").connection_pool
        return pool.connection_kwargs["ssl_check_hostname"]

    assert checks("") is True
    assert checks("?ssl_check_hostname=0") is False
    assert checks("?ssl_cert_reqs=none") is False


@pytest.mark.parametrize(
    ("url", "is_about_tls"), [("rediss://h:1/0", True), ("redis://h:1/0", False)]
)
def test_a_tls_connection_that_is_reset_as_we_begin_to_talk_names_the_certificate(
    url: str, is_about_tls: bool
) -> None:
    """As Python 3.13 tells of a server that has refused it, where an alert is not read before."""
    reset = "Error 104 while writing to socket. Connection reset by peer."

    with pytest.raises(ServerUnavailableError) as caught, translate_errors(url):
        raise redis.ConnectionError(reset)

    assert ("ssl_certfile=" in str(caught.value)) == is_about_tls
