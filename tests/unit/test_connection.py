"""What a URL means; nothing here connects."""

import pytest

from rqd.model.errors import ConfigurationError
from rqd.store.connection import (
    client_connection,
    default_namespace,
    default_url,
    hide_password,
)


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
        *("redis://h:port", "redis://h:99999", "redis://[::1", "redis://h/0?db=x", "rediss:h"),
        *("redis://h?socket_timeout=soon", "redis://h?health_check_interval=x"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL") as caught:
        client_connection(url)

    assert "\n" not in str(caught.value)


def test_a_refused_url_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_connection("http://user:secret@h")

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
        ("embedded:/a", "embedded:/a"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_a_client_waits_as_long_as_its_url_says() -> None:
    patient = client_connection("redis://h?socket_timeout=60").connection_pool.connection_kwargs
    usual = client_connection("redis://h").connection_pool.connection_kwargs

    assert (patient["socket_timeout"], patient["socket_connect_timeout"]) == (60, 2)
    assert (usual["socket_timeout"], usual["socket_connect_timeout"]) == (5, 2)
