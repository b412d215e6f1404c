"""Where a control group is delegated to the daemon, the kernel holds its jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.daemon.host.cgroups import available_controllers, own_group
from rqd.job import Job
from rqd.results import Result
from tests import hungry_jobs, jobs
from tests.daemons import StartDaemon, alive
from tests.descriptors import descriptors
from tests.lacking import CONTROL_GROUPS
from tests.process.test_takeover import kill_at_once
from tests.process.test_zygotes import (
    await_idle,
    leave_room_at_reload,
    tells_so_often,
    write_slow,
)
from tests.waiting import eventually, has_text

WAIT_S = 20.0
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@pytest.fixture
def delegated() -> Iterator[Path]:
    """A control group of version 2 for a daemon alone, with the controllers that there are."""
    own = own_group()
    if own is None or os.geteuid() != 0 or not os.access(own, os.W_OK):
        pytest.skip(CONTROL_GROUPS)
    above = own
    while above.parent.joinpath("cgroup.procs").exists():
        above = above.parent
    wanted = available_controllers(above) & {"memory", "pids"}
    (above / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    group = above / f"rqd-test-{os.getpid()}"
    group.mkdir()
    yield group
    (group / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (group / "cgroup.events").read_text(), WAIT_S)
    for path in (*group.iterdir(), group):
        if path.is_dir():
            path.rmdir()


@pytest.fixture
def within(delegated: Path) -> list[str]:
    """What runs a daemon there."""
    return ["sh", "-c", ENTER, str(delegated)]


def needs(group: Path, controller: str) -> None:
    if controller not in available_controllers(group):
        pytest.skip(CONTROL_GROUPS)


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None
    return result


def group_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().rpartition("0::")[2].strip()


def test_each_place_has_a_group_and_what_escapes_from_a_job_dies_with_it(
    start_daemon: StartDaemon,
    queue: Queue,
    delegated: Path,
    within: list[str],
    fifo: str,
    tmp_path: Path,
) -> None:
    daemon = start_daemon("--max-memory", "512M", within=within)
    told = tmp_path / "pid"
    job = queue.enqueue(hungry_jobs.leave_session_and_hold, str(told), fifo)
    eventually(lambda: has_text(told), WAIT_S)
    escaped, zygote = int(told.read_text()), daemon.zygote().pid

    leaf = group_of(daemon.pid)
    assert leaf == group_of(zygote)
    assert leaf.endswith(f"/{delegated.name}/rqd-{daemon.pid}")
    assert group_of(escaped) == f"{leaf}-{zygote}-1"

    Path(fifo).write_text("")
    ended(job)
    eventually(lambda: not psutil.pid_exists(escaped), WAIT_S)

    # The next zygote has groups of its own, and those of the one before are gone.
    daemon.zygote().kill()
    other = ended(queue.enqueue(hungry_jobs.control_groups))
    assert f"rqd-{daemon.pid}-{daemon.zygote().pid}-1" in other.return_value
    groups = [path.name for path in delegated.iterdir() if path.is_dir()]
    assert len(groups) == 2, groups


def test_what_escaped_without_a_trace_is_killed_with_its_group_by_the_next_master(
    start_daemon: StartDaemon, queue: Queue, within: list[str], fifo: str, tmp_path: Path
) -> None:
    daemon = start_daemon("--name", "alpha", "--max-memory", "512M", within=within)
    told = tmp_path / "pid"
    queue.enqueue(jobs.vanish_and_hold, str(told), fifo)
    eventually(lambda: has_text(told), WAIT_S)
    escaped = psutil.Process(int(told.read_text()))
    kill_at_once(daemon)
    assert alive(escaped)

    second = start_daemon("--name", "alpha", "--max-memory", "512M", within=within)

    assert not alive(escaped)
    assert "taken back" in second.log()


@pytest.mark.parametrize("room", [4, 5])  # a place takes six, two of its group; a child leaves two
def test_a_place_for_whose_group_descriptors_lack_is_made_when_there_are_some(
    start_daemon: StartDaemon, there: Backend, within: list[str], tmp_path: Path, room: int
) -> None:
    write_slow(tmp_path)
    limited = ("--max-memory", "512M")
    daemon = start_daemon("--preload", "slow", *limited, cwd=tmp_path, within=within)
    await_idle(daemon, there, 1)
    before = len(descriptors(daemon.pid))

    allow_more = leave_room_at_reload(daemon, tmp_path, room)
    tells_so_often(daemon, "can't fork, trying again", 1)
    allow_more()

    tells_so_often(daemon, "zygote gone", 1)
    child = daemon.titled("rqd: worker 1 idle")  # it has joined its group by then
    assert group_of(child.pid) == f"{group_of(daemon.pid)}-{daemon.zygote().pid}-1"
    eventually(lambda: len(descriptors(daemon.pid)) == before)


def test_a_group_with_other_processes_is_left_alone(
    start_daemon: StartDaemon, queue: Queue, delegated: Path
) -> None:
    beside = f"sleep 60 & {ENTER}"  # of the same group, as a shell's jobs are
    enter = f'echo $$ > "$0/cgroup.procs"; {beside}'
    daemon = start_daemon("--max-memory", "512M", within=["sh", "-c", enter, str(delegated)])
    assert "has other processes" in daemon.log()
    assert ended(queue.enqueue(jobs.multiply, 6, 7)).return_value == 42
    assert not [path for path in delegated.iterdir() if path.is_dir()]


def test_the_kernel_holds_what_the_master_can_not_see_and_says_whose_limit_it_was(
    start_daemon: StartDaemon, queue: Queue, delegated: Path, within: list[str], fifo: str
) -> None:
    needs(delegated, "memory")
    start_daemon("--max-memory", "64M", workers=2, within=within)
    neighbour = queue.enqueue(hungry_jobs.take_and_hold, 30, fifo)

    filled = ended(queue.enqueue(hungry_jobs.fill_shared_memory, 200))
    assert filled.cause == "out of memory: 64 MiB of 64 MiB, killed by the kernel"
    roomy = queue.enqueue(hungry_jobs.fill_shared_memory, 100, max_memory="160M")
    assert ended(roomy).type == "successful", roomy.cause
    again = ended(queue.enqueue(hungry_jobs.fill_shared_memory, 100))
    assert "of 64 MiB" in (again.cause or "")

    Path(fifo).write_text("")
    assert ended(neighbour).return_value == 30 * hungry_jobs.MEBIBYTE


def test_a_job_has_so_many_processes_and_no_more(
    start_daemon: StartDaemon, queue: Queue, delegated: Path, within: list[str]
) -> None:
    needs(delegated, "pids")
    start_daemon("--max-pids", "5", within=within)
    assert ended(queue.enqueue(hungry_jobs.fork_many, 20)).return_value == 4


def test_a_kill_for_the_whole_daemons_memory_is_told_from_other_kills(
    start_daemon: StartDaemon, queue: Queue, delegated: Path, within: list[str]
) -> None:
    needs(delegated, "memory")
    (delegated / "memory.max").write_text(str(200 * hungry_jobs.MEBIBYTE))
    start_daemon(within=within)
    check_told_apart(queue)


def test_so_it_is_with_control_groups_of_version_1(start_daemon: StartDaemon, queue: Queue) -> None:
    above = own_group("memory")
    if above is None or os.geteuid() != 0 or not os.access(above, os.W_OK):
        pytest.skip("needs the controller memory on cgroup version 1")
    group = above / f"rqd-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(200 * hungry_jobs.MEBIBYTE))
        daemon = start_daemon(within=["sh", "-c", ENTER, str(group)])
        check_told_apart(queue)
        daemon.clean_up()
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), WAIT_S)
        group.rmdir()


def check_told_apart(queue: Queue) -> None:
    killed = ended(queue.enqueue(jobs.signal_self, 9))
    assert killed.cause == "crashed: SIGKILL"
    hungry = ended(queue.enqueue(hungry_jobs.take_and_return, 500))
    assert (hungry.cause or "").startswith("out of memory: killed by the kernel")
    assert ended(queue.enqueue(jobs.multiply, 6, 7)).return_value == 42
