"""A dashboard of the run's server, as starlette's client sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.store import Store
from rqd.web import app

Open = Callable[..., TestClient]
_END_S = 20.0


@pytest.fixture
def there(redis_url: str) -> Backend:
    """The run's server, empty."""
    return Backend(Store(client_connection(redis_url)), redis_url)


@pytest.fixture
def dashboard(redis_url: str) -> Iterator[Open]:
    """Opens dashboards of the run's server with these arguments of `rqd.web.app`."""
    with ExitStack() as opened:

        def start(**options: Any) -> TestClient:
            options.setdefault("url", redis_url)
            client = TestClient(app(**options), raise_server_exceptions=True)
            return opened.enter_context(client)

        yield start


def token_in(html: str) -> str:
    """Returns the token of the page's forms."""
    found = re.search(r'name="token" value="(\w+)"', html)
    assert found, "the page has no form"
    return found[1]


class Served:
    """A `rqd web` process, and its address."""

    def __init__(self, *arguments: str, url: str) -> None:
        command = [sys.executable, "-m", "rqd", "web", "--port", "0", *arguments]
        env = {**os.environ, "RQD_URL": url, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, (line, self.process.stderr and self.process.stderr.read())
        self.address = found[0]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_END_S)
        finally:
            self.process.kill()
            self.process.communicate()
