"""The log of a real daemon: all of it in one format, opened anew and set anew at SIGHUP."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from rqd import Queue
from rqd.client.connection import Backend
from tests.daemons import Daemon, StartDaemon
from tests.waiting import eventually

CODE = """
import sys
print("importing", file=sys.stderr)
def pay(card):
    print("paying with", card)
    if card < 0: raise ValueError(card)
"""
CARD = 4711_0815


def records(text: str) -> list[dict[str, Any]]:
    """Every line is an object, whoever wrote it."""
    return [json.loads(line) for line in text.splitlines()]


def events(daemon: Daemon) -> list[str]:
    # The last line may still be on its way.
    return [one["event"] for one in records(daemon.log().rpartition("\n")[0])]


def test_a_log_file_has_json_only_and_sighup_opens_it_anew_with_new_settings(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(CODE)
    log_path = tmp_path / "daemon-1.log"
    options = ("--preload", "shop", "--log-format", "json", "--log-file", str(log_path))
    daemon = start_daemon(*options, cwd=folder)
    good, bad = queue.enqueue("shop.pay", CARD), queue.enqueue("shop.pay", -CARD)
    bad.wait(10)
    eventually(lambda: "job failed" in events(daemon), message=daemon.log)

    seen = records(daemon.log())
    said = {(one["event"], one.get("line"), one.get("job_id")) for one in seen}
    assert ("job output", "importing", None) in said
    assert ("job output", f"paying with {CARD}", good.id) in said
    assert ("job output", f"paying with {-CARD}", bad.id) in said
    (finished,) = [one for one in seen if one["event"] == "job finished"]
    named = ("job_id", "func", "queue", "attempt", "worker")
    assert [finished[name] for name in named] == [good.id, "shop.pay", "default", 1, 1]
    assert isinstance(finished["run_ms"], float)
    assert 0 <= finished["wait_ms"] < 10_000
    (failed,) = [one for one in seen if one["event"] == "job failed"]
    assert failed["cause"] == f"raised ValueError: {-CARD}"
    assert failed["traceback"].startswith("Traceback")
    # The arguments are nowhere but in what the job says itself.
    own = ("job output", "job failed")
    assert str(CARD) not in json.dumps([one for one in seen if one["event"] not in own])
    assert "job started" not in {one["event"] for one in seen}

    old = tmp_path / "old.log"
    log_path.rename(old)
    (folder / "rqd.toml").write_text('log-level = "debug"\njob-output = "none"\n')
    daemon.signal(signal.SIGHUP)
    eventually(lambda: log_path.exists() and "reloaded" in events(daemon), message=daemon.log)
    length = old.stat().st_size
    queue.enqueue("shop.pay", -CARD).wait(10)
    eventually(lambda: "job failed" in events(daemon), message=daemon.log)
    assert {"job claimed", "job started"} <= set(events(daemon))
    assert str(CARD) not in daemon.log()
    assert old.stat().st_size == length

    (folder / "rqd.toml").write_text('log-level = "loud"\n')
    daemon.signal(signal.SIGHUP)
    refused = "reload refused, the old code serves on"
    eventually(lambda: events(daemon)[-1] == refused, message=daemon.log)
    assert daemon.stop() == 0
    assert events(daemon)[-1] == "master stopped"


def test_a_quiet_daemon_logs_warnings_and_errors_only(
    start_daemon: StartDaemon, queue: Queue, redis_url: str
) -> None:
    queue.enqueue("math.sqrt", 4)
    queue.enqueue("math.sqrt", -4)
    daemon = start_daemon("--quiet", "--burst", "--job-output", "none")
    assert daemon.wait() == 0
    (line,) = daemon.log().splitlines()
    assert " ERROR job failed " in line
    assert line.endswith("cause='raised ValueError'")


def test_a_daemon_without_standard_files_writes_its_log_nowhere(
    start_daemon: StartDaemon, queue: Queue, there: Backend
) -> None:
    # The first files that a daemon opens are those by which it hears signals.
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    job = queue.enqueue("time.sleep", 0.5)
    daemon = start_daemon("--burst", within=closed)
    assert daemon.wait() == 0
    job.refresh()
    assert (job.get_status(), job.attempt) == ("finished", 1)
    assert there.views.masters() == []
