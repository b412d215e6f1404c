"""A daemon whose standard error is systemd's journal: a real one, in a namespace of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import ROOT
from tests.lacking import ROOT_ALONE, SYSTEMD, needs_namespaces
from tests.processes import found_first
from tests.waiting import eventually

JOURNALD = Path("/lib/systemd/systemd-journald")
LIMIT_S = 60
WITHIN = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
# As systemd connects a unit's standard error: who, then priority, and to whom else it goes.
STREAM_HEADER = b"rqd\n\n6\n0\n0\n0\n0\n"

pytestmark = [
    pytest.mark.skipif(not JOURNALD.exists() or shutil.which("journalctl") is None, reason=SYSTEMD),
    pytest.mark.skipif(os.geteuid() != 0, reason=ROOT_ALONE),
]

CODE = """
def pay(amount):
    print("paying")
    print("slowly")
    if amount < 0: raise ValueError("no\\nsuch amount")
"""


def test_the_journal_has_each_event_and_what_jobs_print_with_their_fields(
    redis_url: str, tmp_path: Path
) -> None:
    needs_namespaces(*WITHIN, "true")
    (tmp_path / "shop.py").write_text(CODE)
    ran = subprocess.run(
        [*WITHIN, sys.executable, __file__, redis_url, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **found_first(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    of_jobs = [one for one in records if one.get("RQD_JOB_ID") == "bad"]
    output, failed = sorted(of_jobs, key=lambda one: one["RQD_EVENT"], reverse=True)
    assert (output["RQD_EVENT"], output["MESSAGE"]) == ("job output", "paying\nslowly")
    assert (failed["RQD_EVENT"], failed["PRIORITY"]) == ("job failed", "3")
    assert failed["RQD_FUNC"] == "shop.pay"
    assert failed["RQD_CAUSE"] == "raised ValueError: no"
    assert failed["MESSAGE"].endswith("\n    such amount")
    assert {one["SYSLOG_IDENTIFIER"] for one in records} == {"rqd"}
    assert {one["RQD_MASTER"] for one in records} == {"in-the-journal"}
    events = [one["RQD_EVENT"] for one in records]
    assert (events[0], events[-1]) == ("master started", "master stopped")


def in_a_box(url: str, folder: str) -> None:
    """Starts a journal, has a daemon run its jobs under it, and prints what the journal has."""
    for mount in (["--make-rprivate", "/"], ["-t", "tmpfs", "tmpfs", "/run"]):
        subprocess.run(["mount", *mount], check=True)
    os.makedirs("/run/log/journal")
    subprocess.Popen([JOURNALD], stderr=subprocess.DEVNULL)
    stream_path = Path("/run/systemd/journal/stdout")
    eventually(stream_path.exists, 10.0)
    rqd = [sys.executable, "-m", "rqd"]
    for job_id, amount in (("good", ":1"), ("bad", ":-1")):
        enqueue = ["enqueue", "--quiet", "--job-id", job_id, "shop.pay", amount]
        subprocess.run([*rqd, *enqueue], env={**os.environ, "RQD_URL": url}, check=True)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(stream_path))
        stream.sendall(STREAM_HEADER)
        found = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}", "RQD_URL": url}
        command = [*rqd, "start", "--burst", "--name", "in-the-journal", "--path", folder]
        environment = {**os.environ, **named, "XDG_STATE_HOME": folder}
        subprocess.run(command, env=environment, stderr=stream.fileno(), check=True)

    def records() -> str:
        wanted = ["--output", "json", "--no-pager", "--directory", "/run/log/journal"]
        matching = ["SYSLOG_IDENTIFIER=rqd"]
        ran = subprocess.run(["journalctl", *wanted, *matching], capture_output=True, text=True)
        return ran.stdout if "master stopped" in ran.stdout else ""

    print(eventually(records, 10.0), end="")


if __name__ == "__main__":
    in_a_box(*sys.argv[1:])
