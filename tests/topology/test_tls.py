"""TLS with client certificates: the daemon, clients, the command line; and what can be wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

import rqd.aio
from rqd import Queue, Worker
from rqd.client.connection import backend_for
from rqd.store.connection import client_connection
from tests import jobs
from tests.cli.running import rqd as rqd_command
from tests.daemons import StartDaemon
from tests.servers import running_server
from tests.topology.certificates import Certificates, make_certificates
from tests.topology.networks import free_port, nodes, tls_binary, watch
from tests.waiting import eventually

EX_USAGE, EX_UNAVAILABLE = 64, 69


@dataclass(frozen=True)
class TLSServer:
    """Where it listens, and who may come in."""

    port: int
    certificates: Certificates

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0?{self.certificates.query()}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def secure(certificates: Certificates) -> Iterator[TLSServer]:
    port, plain_port = free_port(), free_port()
    listening = (
        "--tls-port",
        str(port),
        "--port",
        str(plain_port),
        "--bind",
        "127.0.0.1 127.0.0.2",
    )
    with running_server(tls_binary(), *listening, *certificates.server_options):
        yield TLSServer(port, certificates)


def test_a_daemon_a_client_and_the_command_line_speak_tls(
    secure: TLSServer, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--name", "secure", url=secure.url)
    queue = Queue(connection=backend_for(secure.url))

    for number in range(20):
        result = queue.enqueue(jobs.multiply, number, 7).latest_result(timeout=10)
        assert result is not None
        assert result.return_value == number * 7
    large = queue.enqueue(jobs.echo, "x" * 300_000)
    assert large.latest_result(timeout=10)
    assert large.return_value() == "x" * 300_000
    assert "redis is gone" not in daemon.log()
    assert rqd_command("info", url=secure.url).status == 0
    assert rqd_command("stop", url=secure.url).status == 0
    assert daemon.wait() == 0


def test_awaited_calls_speak_tls(secure: TLSServer) -> None:
    async def story() -> None:
        job = await rqd.aio.Queue("awaited", secure.url).enqueue(jobs.multiply, 6, 7)
        await asyncio.to_thread(Worker(["awaited"], connection=secure.url).work)
        assert await (await job.wait(10)).return_value() == 42
        await rqd.aio.close()

    asyncio.run(story())


def test_a_session_ticket_is_no_answer(secure: TLSServer, start_daemon: StartDaemon) -> None:
    """TLS 1.3 makes a socket readable with nothing to read: the daemon must not wait on it."""
    daemon = start_daemon(url=secure.url)
    queue = Queue(connection=backend_for(secure.url))
    admin = redis.Redis.from_url(secure.url)
    for _ in range(3):
        admin.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: "redis is back" in daemon.log(), 5.0, daemon.log)
        assert queue.enqueue(jobs.multiply, 6, 7).latest_result(timeout=5)
    assert "Timeout" not in daemon.log()


def test_a_users_tls_client_is_read_with_its_certificates(secure: TLSServer) -> None:
    theirs = secure.certificates.client(secure.port)
    queue = Queue("mine", connection=theirs)
    job = queue.enqueue(jobs.multiply, 6, 7)

    assert Worker([queue]).work()  # a daemon that is told a URL

    assert job.return_value() == 42


@pytest.mark.parametrize(
    ("host", "query", "why"),
    [
        ("127.0.0.2", "{ours}", "IP address mismatch"),
        ("127.0.0.1", "{unknown}", "its certificate is not trusted"),
        ("127.0.0.1", "{anonymous}", "it wants a client's certificate"),
        ("127.0.0.1", "{stranger}", "it does not trust our certificate"),
    ],
)
@pytest.mark.parametrize("command", [["info"], ["start"], ["enqueue", "tasks.f"]])
def test_a_wrong_certificate_is_one_line(
    secure: TLSServer,
    certificates: Certificates,
    tmp_path: Path,
    host: str,
    query: str,
    why: str,
    command: list[str],
) -> None:
    is_about_us = query in ("{anonymous}", "{stranger}")  # told after our side of the handshake
    other = make_certificates(tmp_path / "other")
    ours = certificates.query()
    written = {
        "{ours}": ours,
        "{unknown}": certificates.query("ssl_ca_certs"),
        "{anonymous}": certificates.query("ssl_certfile", "ssl_keyfile"),
        "{stranger}": f"{other.query('ssl_ca_certs')}&ssl_ca_certs={certificates.folder}/ca.crt",
    }[query]

    ran = rqd_command(*command, url=f"rediss://{host}:{secure.port}/0?{written}")

    assert ran.status == EX_UNAVAILABLE, ran
    assert why in ran.err or (is_about_us and "it ended the TLS connection" in ran.err)
    assert ran.err.count("\n") == 1


def test_the_hosts_name_is_compared_unless_told_otherwise(secure: TLSServer) -> None:
    url = secure.url.replace("127.0.0.1", "127.0.0.2")

    with pytest.raises(redis.ConnectionError, match="its certificate is not trusted"):
        client_connection(url).ping()
    assert client_connection(f"{url}&ssl_check_hostname=0").ping()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rediss://h?ssl_certfile=/no/such.crt", "ssl_certfile: there is no /no/such.crt"),
        ("rediss://h?ssl_cert_reqs=maybe", "maybe"),
        ("rediss://h?ssl_certfiel=x", "unexpected keyword argument 'ssl_certfiel'"),
        ("redis://h?ssl_certfile=/dev/null", "unexpected keyword argument 'ssl_certfile'"),
    ],
)
def test_a_tls_setting_that_cannot_be_is_refused(url: str, why: str) -> None:
    ran = rqd_command("info", url=url)

    assert ran.status == EX_USAGE
    assert why in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", [["info"], ["start"], ["enqueue", "tasks.f"]])
def test_a_server_without_tls_is_told_from_a_slow_one(command: list[str]) -> None:
    """It answers nothing to a handshake: each try would wait 5 s, and say to try again."""
    with nodes(1) as (plain,):
        begun = time.monotonic()

        ran = rqd_command(*command, url=f"rediss://{plain.address}")

        assert time.monotonic() - begun < 5.0
        assert ran.status == EX_UNAVAILABLE, ran
        # A handshake with a line break by chance is answered by an error, without a wait.
        assert "does not speak TLS: write redis:// in place of rediss://" in ran.err
        assert ran.err.count("\n") == 1


def test_a_cluster_over_tls(certificates: Certificates, start_daemon: StartDaemon) -> None:
    port = free_port()
    options = ("--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-port", str(port))
    with running_server(tls_binary(), *options, *certificates.server_options):
        admin = certificates.client(port)
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: "cluster_state:ok" in str(admin.execute_command("CLUSTER", "INFO")))
        url = f"rediss+cluster://127.0.0.1:{port}?{certificates.query()}"
        start_daemon(url=url)
        assert Queue(connection=backend_for(url)).enqueue(jobs.multiply, 6, 7).latest_result(10)


def test_sentinels_over_tls(certificates: Certificates, start_daemon: StartDaemon) -> None:
    ports = free_port(), free_port()
    common = ("--tls-replication", "yes", *certificates.server_options)
    with (
        running_server(tls_binary(), "--tls-port", str(ports[0]), *common),
        running_server(tls_binary(), "--tls-port", str(ports[1]), *common, is_sentinel=True),
    ):
        watch(certificates.client(ports[1]), ports[0], quorum=1)
        url = f"rediss+sentinel://127.0.0.1:{ports[1]}/jobs?{certificates.query()}"
        start_daemon(url=url)
        assert Queue(connection=backend_for(url)).enqueue(jobs.multiply, 6, 7).latest_result(10)
