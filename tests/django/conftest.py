"""Django in this process, with the test's Redis, and a daemon that has it preloaded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from rqd.client.connection import Backend, backend_for, using
from tests.daemons import Daemon, StartDaemon
from tests.django.settings import set_up
from tests.lacking import needs_postgres
from tests.processes import bound_to_pytest
from tests.waiting import eventually

set_up()


class StartDjango(Protocol):
    """Starts a daemon with the project preloaded."""

    def __call__(self, *extra: str, **env: str) -> Daemon: ...


@pytest.fixture
def there(redis_url: str) -> Iterator[Backend]:
    """The test's Redis, which is the one that the settings lead to."""
    backend = backend_for(redis_url)
    with using(backend):
        yield backend


@pytest.fixture
def signals_file(tmp_path: Path) -> Path:
    """Where the daemon's receivers note the signals they get."""
    path = tmp_path / "signals"
    path.touch()
    return path


@pytest.fixture
def start_django(start_daemon: StartDaemon, there: Backend, signals_file: Path) -> StartDjango:
    """Starts a daemon for the queues of the settings."""

    def start(*extra: str, **env: str) -> Daemon:
        return start_daemon(
            *("--preload", "tests.django.boot"),
            *("--middleware", "rqd.django.middleware.fresh_connections"),
            *extra,
            queues="default,mails",
            env={"SIGNALS_FILE": str(signals_file), **env},
        )

    return start


@pytest.fixture
def database(there: Backend) -> Iterator[Any]:
    """A database in memory, whose transactions are this thread's."""
    from django.db import connection

    connection.ensure_connection()
    yield connection
    connection.close()


@pytest.fixture
def postgres() -> Iterator[str]:
    """A PostgreSQL server of this test's on a unix socket; returns the socket's folder."""
    programs = needs_postgres()
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    # Not below pytest's folder, which only root may enter; and short, as a socket's path must be.
    with tempfile.TemporaryDirectory(prefix="rqd-pg") as folder:
        shutil.chown(folder, "postgres", "postgres")
        data = os.path.join(folder, "data")
        initdb = [str(programs / "initdb"), "--auth=trust", "--no-sync", "--pgdata", data]
        subprocess.run(
            [*as_postgres, *initdb], cwd=folder, check=True, capture_output=True, timeout=60
        )
        server = subprocess.Popen(
            [*as_postgres, str(programs / "postgres"), "-D", data, "-k", folder, "-h", "", "-F"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=bound_to_pytest(),
        )
        is_ready = [str(programs / "pg_isready"), "--host", folder, "--quiet"]
        eventually(lambda: subprocess.run(is_ready, timeout=10).returncode == 0, 20)
        yield folder
        server.send_signal(signal.SIGINT)  # without waiting for sessions
        server.wait(20)
