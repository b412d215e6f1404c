import pytest

from tests.servers import RedisServer
from tests.store.driving import Driver


@pytest.fixture
def rqd(every_server: RedisServer) -> Driver:
    """A namespace on an empty server of each kind."""
    return Driver(every_server.url)
