"""What the tests of a daemon share: a client of its server, and a pipe by which to hold a job."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.store.connection import client_connection
from rqd.store.store import Store


@pytest.fixture
def there(redis_url: str) -> Backend:
    """The run's server, empty."""
    return Backend(Store(client_connection(redis_url)), redis_url)


@pytest.fixture
def queue(there: Backend) -> Queue:
    """The queue `default` on it."""
    return Queue(connection=there)


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """A named pipe: a job that reads it runs until the test opens its other end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)
