"""What the tests of a daemon share: a client of its server."""

from __future__ import annotations

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
