"""Fixtures for tests of code that uses rqd; pytest finds them by itself.

Nothing of rqd is loaded before a test uses a fixture.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rqd.client.queue import Queue


@pytest.fixture(scope="session")
def rqd_server() -> Iterator[str]:
    """The URL of a server for this test run, which is stopped at the run's end.

    A conftest.py that has a Redis for its tests defines a fixture of this name, with its URL.
    """
    from rqd.testing.queues import embedded_server  # noqa: PLC0415 - see the module's docstring

    with embedded_server() as url:
        yield url


@pytest.fixture
def rqd_queue(rqd_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """The empty queue `default` in a namespace of its own, on the server of this test run.

    That namespace is the default of this process and of its children: a `Queue("mails")` in the
    tested code is there, too.
    """
    from rqd.client.connection import use_redis, using  # noqa: PLC0415 - as above
    from rqd.client.queue import Queue  # noqa: PLC0415 - as above

    namespace = f"test-{secrets.token_hex(4)}"
    monkeypatch.setenv("RQD_URL", rqd_server)
    monkeypatch.setenv("RQD_NAMESPACE", namespace)
    with using(None):
        use_redis(rqd_server, namespace)
        yield Queue()
