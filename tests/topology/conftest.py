from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from tests.topology.networks import RedisCluster, Watched, running_cluster, watched_service
from tests.waiting import eventually


@pytest.fixture(scope="session")
def _cluster() -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    """A cluster of three nodes, empty."""
    for node in _cluster.nodes:
        node.admin.flushall()
        # Where a test failed half way through a move.
        node.admin.execute_command("CLUSTER", "SETSLOT", key_slot(b"{rqd}"), "STABLE")
    # On a busy machine a node may have been taken for dead meanwhile.
    eventually(_cluster.is_up, 20.0, "the cluster to be up")
    return _cluster


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A service of this test only: a master, two replicas, three sentinels."""
    with watched_service() as service:
        yield service
