"""A dashboard of the run's server, as starlette's client sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from rqd.web import app

Open = Callable[..., TestClient]


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
