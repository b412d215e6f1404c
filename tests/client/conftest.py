from collections.abc import Iterator

import pytest

from rqd import use_redis
from rqd.client.connection import Backend, _connections, backend_for


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    """The default Redis of the process is an empty server, as after `use_redis(url)`."""
    before = _connections.default
    use_redis(redis_url)
    yield backend_for()
    _connections.default = before
