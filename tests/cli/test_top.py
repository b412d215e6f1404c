"""`rqd ps` and `rqd top`: the latter in a terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import click
import pytest

from rqd.cli.activity import ps
from rqd.client.connection import backend_for
from rqd.queue import Queue
from rqd.store.messages import Beat
from tests.cli.running import ROOT, rqd
from tests.client.performing import claim
from tests.processes import bound_to_pytest
from tests.servers import RedisServer
from tests.waiting import eventually

LIMIT_S = 30.0


def run_two(url: str) -> None:
    """Two running jobs: one that was measured, and one that has just begun."""
    there = backend_for(url)
    row: dict[str, Any] = {"host": "web1", "pid": 7, "workers": 2, "state": "busy"}
    there.store.hello("m", "boot", 15, row)
    for queue, job_id in (("low", "first"), ("high", "second")):
        Queue(queue, connection=url).enqueue("tests.client.work.echo", job_id=job_id)
    claim(there, "low", "high", count=2)
    stale = {"measured": "another", "memory_bytes": 1, "cpu_percent": "1"}
    fresh = {"measured": "first", "memory_bytes": 123 * 2**20, "cpu_percent": "45.6"}
    workers: dict[int, dict[str, Any]] = {1: {"pid": 81, **fresh}, 2: {"pid": 82, **stale}}
    there.store.beat(Beat("m", "boot", 15_000_000, 15, "", (), row, workers))


def test_ps_lists_the_running_jobs_of_all_hosts(redis_url: str) -> None:
    assert json.loads(rqd("ps", "--json", url=redis_url).out) == []
    run_two(redis_url)

    ran = rqd("ps", "--sort", "cpu", "--json", url=redis_url)

    first, second = json.loads(ran.out)
    assert first["for_s"] >= 0
    assert {name: first[name] for name in ("id", "queue", "worker", "host", "pid")} == {
        "id": "first",
        "queue": "low",
        "worker": "m:1",
        "host": "web1",
        "pid": 81,
    }
    assert (first["cpu_percent"], first["memory_bytes"]) == (45.6, 123 * 2**20)
    # What the row has is of the job before it.
    assert (second["id"], second["cpu_percent"], second["memory_bytes"]) == ("second", None, None)
    _, heads, *rows = rqd("ps", "--sort", "queue", url=redis_url).out.splitlines()
    assert heads.split()[:3] == ["job", "function", "queue"]
    assert heads.split()[-5:] == ["cpu", "%", "memory", "MiB", "progress"]
    assert rows[1].split()[-3:] == ["46", "123.0", "-"]
    assert heads.index("memory MiB") + len("memory MiB") == rows[1].index("123.0") + len("123.0")
    assert [row.split()[0] for row in rows] == ["second", "first"]
    assert "123.0" in rows[1]


def test_ps_leaves_columns_out_before_it_shortens_names(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_two(redis_url)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    ps.main(["--url", redis_url], standalone_mode=False)

    shown = click.unstyle(capsys.readouterr().out)
    assert "tests.client.work.echo" in shown
    assert "(too narrow for " in shown


class Terminal:
    """`rqd top` in a terminal of 24 lines, and what it has written there."""

    def __init__(self, url: str) -> None:
        self.near, self.far = os.openpty()
        self.resize(24, 120, tell=False)
        self.before = termios.tcgetattr(self.far)
        self.written = b""
        # A size in the environment, as pytest-xdist's, would hold for curses whatever comes.
        environment = {k: v for k, v in os.environ.items() if k not in ("LINES", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rqd", "top", "--interval", "0.1"],
            cwd=ROOT,
            env={**environment, "RQD_URL": url, "TERM": "xterm"},
            stdin=self.far,
            stdout=self.far,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=bound_to_pytest(LIMIT_S),
        )

    def resize(self, lines: int, columns: int, tell: bool = True) -> None:
        fcntl.ioctl(self.far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        self.written = b""
        os.write(self.near, keys.encode())

    def shows(self, text: str) -> bool:
        while select.select([self.near], [], [], 0)[0]:
            self.written += os.read(self.near, 65536)
        return text.encode() in self.written

    def until_shown(self, text: str) -> None:
        eventually(lambda: self.shows(text), 15.0, lambda: f"{text!r} in {self.written!r}")

    def has_ended(self) -> bool:
        self.shows("")  # nobody else empties its terminal
        return self.process.poll() is not None

    def leave(self) -> int:
        eventually(self.has_ended, 15.0, lambda: f"the end; {self.written!r}")
        self.shows("")
        assert b"\x1b[?1049l" in self.written  # back from the alternate screen
        assert termios.tcgetattr(self.far) == self.before
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self.near)
        os.close(self.far)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


# As of Ctrl-C, and of kill: that one curses hears by itself.
@pytest.mark.parametrize(("ends", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_top_sorts_resizes_and_leaves_the_terminal_as_it_was(
    redis_url: str, terminals: list[Terminal], ends: signal.Signals, status: int
) -> None:
    run_two(redis_url)
    terminals += [Terminal(redis_url), Terminal(redis_url)]
    top, other = terminals
    top.until_shown("2 jobs on 1 host, by time")
    top.until_shown("123.0")
    top.press("c")
    top.until_shown("cpu")
    top.resize(5, 40)
    top.until_shown("by cpu")  # all is drawn anew
    top.press("q")
    assert top.leave() == 0

    other.until_shown("2 jobs")
    other.process.send_signal(ends)
    assert other.leave() == status


def test_top_bears_a_redis_that_goes_away_and_restores_the_terminal_after_an_error(
    redis_url: str, own_server: RedisServer, terminals: list[Terminal]
) -> None:
    there = backend_for(redis_url)
    terminals += [Terminal(own_server.url), Terminal(redis_url)]
    top, other = terminals
    for terminal in terminals:
        terminal.until_shown("0 jobs")
    own_server.kill()
    top.until_shown("Redis is away, trying again")
    top.press("q")
    assert top.leave() == 0

    there.store.redis.set(there.store.keys.masters, "of a wrong type")
    assert other.leave() == 64
    assert other.process.stderr is not None
    assert b"holds something else" in other.process.stderr.read()


def test_top_needs_a_terminal(redis_url: str) -> None:
    ran = rqd("top", url=redis_url)
    assert (ran.status, ran.err) == (
        64,
        "rqd: rqd top needs a terminal: `rqd ps` prints the same once\n",
    )
    assert rqd("top", "--interval", "0", url=redis_url).status == 64
