"""Two masters on two hosts, as network namespaces are; one is cut off for longer than its lease."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rqd import Queue
from tests import jobs
from tests.daemons import StartDaemon
from tests.lacking import ROOT_ALONE, needs_programs, needs_root
from tests.servers import RedisServer, running_server
from tests.topology.networks import full_binary
from tests.waiting import eventually, has_text

PORT = 6379  # in namespaces of our own, which nobody else listens in
LEASE_S = 15.0
BEAT_S = 5.0
LIMIT_S = 110.0


@dataclass(frozen=True)
class Host:
    """A network namespace, joined to the server's by a cable of its own."""

    name: str
    hub: str
    number: int

    @property
    def url(self) -> str:
        return f"redis://10.231.{self.number}.1:{PORT}"

    @property
    def within(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def connect(self) -> None:
        ours, theirs = f"to-{self.number}", f"hub-{self.number}"
        ip("-n", self.hub, "link", "add", ours, "type", "veth", "peer", theirs)
        ip("-n", self.hub, "link", "set", theirs, "netns", self.name)
        for space, device, last in ((self.hub, ours, 1), (self.name, theirs, 2)):
            ip("-n", space, "addr", "add", f"10.231.{self.number}.{last}/30", "dev", device)
            ip("-n", space, "link", "set", device, "up")

    def cut_off(self) -> None:
        """No packet comes through; nobody is told."""
        ip("-n", self.hub, "link", "set", f"to-{self.number}", "down")

    def rejoin(self) -> None:
        ip("-n", self.hub, "link", "set", f"to-{self.number}", "up")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[RedisServer, list[Host]]]:
    """A server, by its unix socket, and two hosts that reach it over the network."""
    needs_root()
    needs_programs("ip")
    hub, *names = [f"rqd-{os.getpid()}-{part}" for part in ("hub", "one", "two")]
    with ExitStack() as stack:
        found = [Host(name, hub, number) for number, name in enumerate(names, 1)]
        try:
            for name in (hub, *names):
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            for host in found:
                host.connect()
        except subprocess.CalledProcessError:
            pytest.skip(ROOT_ALONE)  # such as in a chroot, whose root is no mount of its own
        within = tmp_path / "redis-server-within"
        within.write_text(f'#!/bin/sh\nexec ip netns exec {hub} {full_binary()} "$@"\n')
        within.chmod(0o755)
        listening = ("--port", str(PORT), "--bind", "10.231.1.1 10.231.2.1")
        server = running_server(within, *listening, "--protected-mode", "no")
        yield stack.enter_context(server), found


def let_go(fifo: Path) -> bool:
    """Ends the waits of those that read it by now, if any does."""
    with suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    return True


@pytest.mark.timeout(120)
def test_a_master_cut_off_past_its_lease_is_taken_from_and_recovers_by_itself(
    hosts: tuple[RedisServer, list[Host]], start_daemon: StartDaemon, tmp_path: Path
) -> None:
    server, (one, two) = hosts
    alpha = start_daemon("--name", "alpha", url=one.url, within=one.within, limit_s=LIMIT_S)
    queue = Queue(connection=server.url)
    history, fifo = tmp_path / "history", tmp_path / "fifo"
    os.mkfifo(fifo)
    held = queue.enqueue(jobs.note_and_hold, str(history), str(fifo))
    eventually(lambda: has_text(history), 10.0, alpha.log)
    beta = start_daemon("--name", "beta", url=two.url, within=two.within, limit_s=LIMIT_S)

    one.cut_off()
    eventually(lambda: "redis is gone" in alpha.log(), 10.0, alpha.log)
    eventually(lambda: history.read_text() == "started\n" * 2, LEASE_S + 2 * BEAT_S + 5.0, beta.log)

    # Both attempts end now: the second one may open it only after the first was let go.
    eventually(lambda: let_go(fifo) and held.is_finished, 10.0, beta.log)
    assert held.worker_name == "beta:1"
    one.rejoin()
    eventually(lambda: "redis is back" in alpha.log(), 15.0, alpha.log)
    eventually(lambda: "outcome refused" in alpha.log(), 10.0, alpha.log)
    assert beta.stop() == 0
    again = queue.enqueue(jobs.multiply, 6, 7)
    assert again.latest_result(timeout=10)
    again.refresh()
    assert (again.worker_name, len(held.results())) == ("alpha:1", 1)
    assert alpha.stop() == 0
