"""The units at work under a real systemd: started, reloaded, stopped, stuck, killed, several."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.job import Job, JobStatus
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests.systemd.box import Box
from tests.waiting import eventually

WAIT_S = 15.0
SHOP = r"""
import os
import pwd
import sys
from pathlib import Path


def version():
    return "one"


def hold(fifo):
    return Path(fifo).read_text()


def pay(amount):
    sys.stdout.write("paying\npaid\n")  # at once
    return 1 / amount


def group():
    return Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()


def surroundings():
    Path("made").touch()
    return {
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "folder": os.getcwd(),
        "home": os.path.exists("/root/.profile"),
        "system": os.access("/etc", os.W_OK),
        "told": os.environ.get("TOLD"),
    }
"""


def queue_of(box: Box, name: str) -> Queue:
    return Queue(name, connection=Backend(Store(client_connection(box.server.url)), ""))


def configured(box: Box, instance: str, drop_in: str = "", **settings: str) -> str:
    """An instance with a queue of its name, and with these lines of `systemctl edit`: its unit."""
    wanted = {
        "RQD_URL": "unix:///srv/shop/redis.sock",
        "RQD_QUEUES": instance,
        "RQD_WORKERS": "1",
        "RQD_OPTIONS": "--path /srv/shop --preload shop",
        **settings,
    }
    box.write(f"/etc/rqd/{instance}.env", "".join(f"{k}={v}\n" for k, v in wanted.items()))
    unit = f"rqd@{instance}.service"
    if drop_in:
        box.write(f"/etc/systemd/system/{unit}.d/override.conf", f"[Service]\n{drop_in}\n", "644")
        box.do("systemctl", "daemon-reload")
    return unit


def started(box: Box, instance: str, drop_in: str = "", **settings: str) -> str:
    """The unit of such an instance, which is ready."""
    unit = configured(box, instance, drop_in, **settings)
    box.do("systemctl", "start", unit)
    return unit


def hold(box: Box, queue: Queue) -> tuple[Job[str], Path]:
    """A job that runs until somebody opens the pipe that it reads."""
    fifo = box.shop / f"{queue.name}.fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    job: Job[str] = queue.enqueue("shop.hold", f"/srv/shop/{fifo.name}")
    eventually(lambda: job.is_started, WAIT_S)
    return job, fifo


def result(job: Job[Any]) -> Any:
    found = job.latest_result(timeout=int(WAIT_S))
    assert found is not None
    return found.return_value


@pytest.fixture(autouse=True)
def shop(box: Box) -> Path:
    """The application, as it was first deployed."""
    module: Path = box.shop / "shop.py"
    module.write_text(SHOP)
    return module


def test_a_started_unit_is_ready_and_runs_jobs_as_its_user_within_its_limits(box: Box) -> None:
    assert box.show("rqd", "ActiveState") == ["active"]
    eventually(lambda: box.show("rqd", "StatusText") == ["0/1 busy"], WAIT_S)
    assert result(queue_of(box, "rqd").enqueue("shop.surroundings")) == {
        "user": "rqd",
        "folder": "/var/lib/rqd",
        "home": False,
        "system": False,
        "told": "by rqd.env",
    }
    probe = ["env", "STATE_DIRECTORY=/var/lib/rqd", "/opt/rqd/bin/rqd", "healthcheck", "--ready"]
    assert box.do("runuser", "-u", "rqd", "--", *probe).startswith("box.1: ")
    # The settings can hold passwords.
    assert (
        box.do("stat", "--format=%U %a", "/etc/rqd", "/etc/rqd/rqd.env") == "root 700\nroot 600\n"
    )


def test_a_reload_brings_new_code_and_a_broken_one_leaves_the_old(box: Box, shop: Path) -> None:
    unit = started(box, "deployed")
    queue = queue_of(box, "deployed")
    before = box.show(unit, "MainPID")
    assert result(queue.enqueue("shop.version")) == "one"

    shop.write_text(SHOP.replace('"one"', '"two"'))
    box.do("systemctl", "reload", unit)
    eventually(lambda: "reloaded" in box.log(unit), WAIT_S)
    assert result(queue.enqueue("shop.version")) == "two"

    shop.write_text("import no_such_module\n")
    box.do("systemctl", "reload", unit)
    eventually(lambda: "reload refused, the old code serves on" in box.log(unit), WAIT_S)
    eventually(lambda: "ModuleNotFoundError: No module named" in box.log(unit), WAIT_S)
    assert result(queue.enqueue("shop.version")) == "two"
    wanted = ["active", "0/1 busy, reload refused", *before]
    eventually(lambda: box.show(unit, "ActiveState", "StatusText", "MainPID") == wanted, WAIT_S)


def test_a_stop_lets_a_job_finish(box: Box) -> None:
    unit = started(box, "patient")
    job, fifo = hold(box, queue_of(box, "patient"))

    box.do("systemctl", "stop", "--no-block", unit)
    eventually(lambda: "stopping" in box.show(unit, "StatusText")[0], WAIT_S)
    fifo.write_text("done")

    eventually(lambda: box.show(unit, "ActiveState") == ["inactive"], WAIT_S)
    assert box.show(unit, "Result", "ExecMainStatus") == ["success", "0"]
    assert job.return_value() == "done"


def test_a_job_past_the_grace_is_put_back_before_the_unit_itself_times_out(box: Box) -> None:
    # The daemon asks for more time than the unit has.
    unit = started(box, "hurried", "TimeoutStopSec=1", RQD_GRACE="2")
    job, _ = hold(box, queue_of(box, "hurried"))

    box.do("systemctl", "stop", unit)

    assert box.show(unit, "ActiveState", "Result") == ["inactive", "success"]
    assert job.get_status() is JobStatus.QUEUED
    assert box.processes(unit) == {}


def test_a_master_that_stands_still_is_ended_with_its_stack_and_started_anew(box: Box) -> None:
    unit = started(box, "stuck", "WatchdogSec=2\nRestartSec=100ms")
    queue = queue_of(box, "stuck")
    job, fifo = hold(box, queue)

    box.do("systemctl", "kill", "--kill-who=main", "--signal=STOP", unit)

    eventually(lambda: box.show(unit, "NRestarts") != ["0"], WAIT_S)
    stack = re.compile(
        r'ended by SIGABRT, here:\n.*File "\S+/rqd/daemon/event_loop.py", line \d+ in wait', re.S
    )
    eventually(lambda: stack.search(box.log(unit)), WAIT_S)
    # The next master takes the job over at once.
    eventually(lambda: job.is_started, WAIT_S)
    fifo.write_text("done")
    assert result(job) == "done"


def test_nothing_outlives_a_killed_master_and_its_job_runs_again_soon(box: Box) -> None:
    unit = started(box, "killed", "RestartSec=100ms")
    job, fifo = hold(box, queue_of(box, "killed"))
    before = box.processes(unit)
    assert len(before) == 3

    box.do("systemctl", "kill", "--kill-who=main", f"--signal={int(signal.SIGKILL)}", unit)

    eventually(lambda: not before.keys() & box.processes(unit).keys(), 2.0)
    eventually(lambda: box.show(unit, "NRestarts", "ActiveState") == ["1", "active"], WAIT_S)
    eventually(lambda: "job of a lost master taken back" in box.log(unit), WAIT_S)
    fifo.write_text("done")
    assert result(job) == "done"
    job.refresh()
    assert job.attempt == 1


def test_two_instances_have_settings_folders_and_queues_of_their_own(box: Box) -> None:
    mail = started(box, "mail", TOLD="by mail.env")
    reports = started(box, "reports", RQD_URL="embedded:/var/lib/rqd/reports/redis")

    job = queue_of(box, "mail").enqueue("shop.surroundings")
    assert result(job)["folder"] == "/var/lib/rqd/mail"
    assert result(job)["told"] == "by mail.env"
    rqd = ["runuser", "-u", "rqd", "--", "/opt/rqd/bin/rqd"]
    there = ["--url", "embedded:/var/lib/rqd/reports/redis"]
    printed = box.do(*rqd, "enqueue", *there, "-q", "reports", "--wait", "shop.surroundings")
    assert "/var/lib/rqd/reports" in printed

    box.do("systemctl", "stop", mail)
    assert box.show(reports, "ActiveState") == ["active"]
    assert box.processes(mail) == {}


def test_an_instance_may_have_a_user_of_its_own_that_only_systemd_knows(box: Box) -> None:
    unit = started(box, "dynamic", "DynamicUser=yes\nUser=rqd-dynamic\nGroup=rqd-dynamic")
    queue = queue_of(box, "dynamic")
    job, fifo = hold(box, queue)
    assert box.show("rqd", "UID") != box.show(unit, "UID")
    place = box.do("readlink", "-f", "/var/lib/rqd/dynamic").strip()
    assert place == "/var/lib/private/rqd/dynamic"

    box.do("systemctl", "kill", "--kill-who=main", f"--signal={int(signal.SIGKILL)}", unit)

    # It knows its predecessor by the lock in its folder.
    eventually(lambda: "job of a lost master taken back" in box.log(unit), WAIT_S)
    eventually(lambda: job.is_started, WAIT_S)
    fifo.write_text("done")
    assert result(job) == "done"


def test_with_delegation_each_job_is_in_a_group_of_its_place(box: Box) -> None:
    delegation = "Delegate=yes\nProtectControlGroups=no"
    options = "--path /srv/shop --preload shop --max-memory 256M"
    unit = started(box, "held", delegation, RQD_OPTIONS=options)
    master = box.show(unit, "MainPID")[0]
    found = result(queue_of(box, "held").enqueue("shop.group"))
    assert re.search(rf"/{unit}/rqd-{master}-\d+-1$", found), box.log(unit)

    box.do("systemctl", "restart", unit)
    again = result(queue_of(box, "held").enqueue("shop.group"))
    assert again.startswith(found.partition("rqd-")[0])
    assert f"/rqd-{box.show(unit, 'MainPID')[0]}-" in again


def test_the_journal_has_a_jobs_events_and_output_as_records_with_its_fields(box: Box) -> None:
    queue = queue_of(box, "rqd")
    assert result(queue.enqueue("shop.pay", 1, job_id="order-7")) == 1
    queue.enqueue("shop.pay", 0, job_id="order-8")

    def told(job_id: str, event: str) -> dict[str, Any]:
        matches = ("_SYSTEMD_UNIT=rqd.service", f"RQD_JOB_ID={job_id}", f"RQD_EVENT={event}")
        (record,) = eventually(lambda: box.journal(*matches), WAIT_S, f"{event} of {job_id}")
        return record

    finished = told("order-7", "job finished")
    assert finished["MESSAGE"].startswith("job finished job_id=order-7 func=shop.pay queue=rqd ")
    fields = ["PRIORITY", "SYSLOG_IDENTIFIER", "RQD_FUNC", "RQD_QUEUE", "RQD_ATTEMPT"]
    assert [finished[name] for name in fields] == ["6", "rqd", "shop.pay", "rqd", "1"]
    assert finished["RQD_MASTER"] == "box.1"
    assert "paying\npaid" in told("order-7", "job output")["MESSAGE"]
    failed = told("order-8", "job failed")
    assert failed["PRIORITY"] == "3"
    assert "ZeroDivisionError" in failed["MESSAGE"]


def test_a_redis_that_comes_late_is_waited_for(box: Box) -> None:
    there = "unix:///srv/shop/late.sock"
    unit = configured(box, "late", "RestartSec=100ms", RQD_URL=there)

    assert box.run("systemctl", "start", unit).returncode != 0
    (box.shop / "late.sock").symlink_to("redis.sock")

    eventually(lambda: box.show(unit, "ActiveState") == ["active"], WAIT_S)
    assert int(box.show(unit, "NRestarts")[0]) > 0


@pytest.mark.parametrize(
    ("options", "status"), [("--workers 0", "64"), ("--path /srv/shop --preload absent", "78")]
)
def test_what_would_end_the_same_again_is_not_started_again(
    box: Box, options: str, status: str
) -> None:
    unit = configured(box, f"wrong-{status}", RQD_OPTIONS=options)

    assert box.run("systemctl", "start", unit).returncode != 0

    assert box.show(unit, "ActiveState", "ExecMainStatus", "NRestarts") == ["failed", status, "0"]
