"""Children that take many jobs go on by themselves: each job's words, end and death are its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rqd import Queue
from rqd.job import Job, JobStatus
from tests import hostile_jobs, jobs
from tests.daemons import Daemon, StartDaemon, alive
from tests.process.test_stopping import release
from tests.waiting import eventually, has_text

REUSED = ("--jobs-per-child", "1000")
WAIT_S = 20.0


def test_each_of_many_quick_jobs_keeps_its_own_output(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    calls = []
    for number in range(100):
        calls += [queue.prepare_data(jobs.say_and_fail, (f"{number}",))]
        calls += [queue.prepare_data(jobs.multiply, (2, 3)), queue.prepare_data(jobs.print_here)]
    made = queue.enqueue_many(calls)
    start_daemon(*REUSED, workers=2)

    ended = [job.wait(WAIT_S) for job in made]

    said = [f"{number}\nand here\nand there\n" for number in range(100)]
    assert [one.output for one in ended[0::3]] == said
    assert {one.output for one in ended[1::3]} == {""}
    assert {one.output for one in ended[2::3]} == {"here\n"}


def test_a_death_amid_quick_jobs_is_its_own_jobs_alone(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    kinds = [jobs.append_and_die if number % 40 == 20 else jobs.append for number in range(400)]
    made = queue.enqueue_many(
        [queue.prepare_data(kind, (str(notes), str(at))) for at, kind in enumerate(kinds)]
    )
    start_daemon(*REUSED, workers=2)

    eventually(lambda: not queue.count + queue.started_job_registry.count, WAIT_S)

    for job in made:
        job.refresh()
    died = [at for at, job in enumerate(made) if job.get_status() is JobStatus.FAILED]
    assert died == [*range(20, 400, 40)]
    assert {job.attempt for job in made} == {1}
    assert all("SIGKILL" in (made[at].exc_info or "") for at in died)
    assert sorted(map(int, notes.read_text().split())) == [*range(400)]


def slow_ones(queue: Queue, notes: Path, count: int) -> list[Job[Any]]:
    calls = [(str(notes), str(number), 0.004) for number in range(count)]
    return queue.enqueue_many([queue.prepare_data(jobs.append_slowly, call) for call in calls])


def begun(notes: Path) -> list[int]:
    return [*map(int, notes.read_text().split())] if notes.exists() else []


def finished(made: list[Job[Any]]) -> list[int]:
    done = JobStatus.FINISHED
    return [at for at, job in enumerate(made) if job.get_status(refresh=True) is done]


def test_a_graceful_stop_lets_the_job_end_that_was_begun_behind_another(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    made = slow_ones(queue, notes, 600)
    daemon = start_daemon(*REUSED, workers=4)
    eventually(lambda: len(begun(notes)) > 100)

    assert daemon.stop(5.0) == 0

    assert queue.started_job_registry.count == 0
    assert sorted(begun(notes)) == finished(made)


@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGUSR1])
def test_a_kill_of_all_meets_the_job_that_was_begun_behind_another(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, signum: int
) -> None:
    notes = tmp_path / "notes"
    slow_ones(queue, notes, 600)
    daemon = start_daemon(*REUSED, workers=4)
    eventually(lambda: len(begun(notes)) > 100)

    daemon.signal(signum)
    eventually(lambda: "killing the running jobs" in daemon.log() or not daemon.running)

    assert (daemon.wait(5.0) if signum == signal.SIGQUIT else daemon.stop(5.0)) == 0
    assert queue.started_job_registry.count == 0


def tells_so_often(daemon: Daemon, event: str, number: int) -> None:
    eventually(lambda: daemon.log().count(event) >= number)


def reload_often(daemon: Daemon) -> None:
    for number in range(1, 4):
        daemon.signal(signal.SIGHUP)
        tells_so_often(daemon, " reloaded", number)


def resize_often(daemon: Daemon) -> None:
    for number in range(1, 9):
        daemon.signal(signal.SIGTTOU if number % 2 else signal.SIGTTIN)
        tells_so_often(daemon, "workers resized", number)


@pytest.mark.parametrize("disturb", [reload_often, resize_often])
def test_no_job_is_lost_or_run_twice_where_children_come_and_go(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, disturb: Callable[[Daemon], None]
) -> None:
    notes = tmp_path / "notes"
    slow_ones(queue, notes, 1000)
    daemon = start_daemon(*REUSED, workers=4)
    eventually(lambda: len(begun(notes)) > 50)

    disturb(daemon)

    eventually(lambda: queue.finished_job_registry.count == 1000, WAIT_S)
    assert sorted(begun(notes)) == [*range(1000)]


def test_a_job_that_breaks_its_channel_fails_alone(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    breaks = queue.prepare_data(hostile_jobs.write_to_channel, (b"\xff" * 20, fifo))
    quick = [queue.prepare_data(jobs.multiply, (2, 3)) for _ in range(100)]
    made = queue.enqueue_many([*quick[:50], breaks, *quick[50:]])
    start_daemon(*REUSED, workers=1)

    for job in made:
        job.wait(WAIT_S)

    assert "the job broke its channel" in (made[50].exc_info or "")
    assert [job.return_value() for job in made] == [6] * 50 + [None] + [6] * 50


@pytest.mark.parametrize("options", [(), REUSED])
def test_a_job_outlives_the_processes_that_die_before_they_begin_it(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "def die():\n"
        "    if os.path.exists('die'):\n"
        "        os._exit(3)\n"
        "os.register_at_fork(after_in_child=die)\n"
    )
    (tmp_path / "die").touch()
    daemon = start_daemon(*options, "--preload", "deadly", workers=1, cwd=tmp_path)
    eventually(lambda: "an idle child died" in daemon.log())

    job = queue.enqueue("builtins.bool")

    eventually(lambda: daemon.log().count("an idle child died") > 5)
    assert daemon.log().count("an idle child died") < 20
    assert job.get_status(refresh=True) in (JobStatus.QUEUED, JobStatus.STARTED)
    (tmp_path / "die").unlink()
    assert job.wait(WAIT_S).return_value() is False
    assert job.attempt == 1


@pytest.mark.parametrize("options", [(), REUSED])
def test_a_job_goes_back_that_was_given_more_time_after_the_death_of_its_process(
    start_daemon: StartDaemon, queue: Queue, options: tuple[str, ...]
) -> None:
    daemon = start_daemon(*options, workers=1)
    idle, zygote = daemon.titled("rqd: worker 1 idle"), daemon.zygote()
    zygote.suspend()
    idle.kill()
    eventually(lambda: not alive(idle))

    job = queue.enqueue(jobs.multiply, 6, 7)
    eventually(lambda: job.get_status(refresh=True) is JobStatus.STARTED)
    job.extend(60)
    eventually(lambda: "job extended" in daemon.log())
    zygote.resume()

    assert job.wait(WAIT_S).return_value() == 42
    assert job.attempt == 1


def test_a_job_larger_than_the_channel_comes_whole_behind_another_one(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    sizes = [1, 1_000_000] * 5
    made = queue.enqueue_many([queue.prepare_data(len, (bytes(size),)) for size in sizes])
    start_daemon(*REUSED)

    for job in made:
        job.wait(WAIT_S)

    assert [job.return_value() for job in made] == sizes


def test_a_job_that_prints_much_behind_others_is_read_to_its_end(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    quick = [queue.prepare_data(jobs.print_here) for _ in range(50)]
    made = queue.enqueue_many([*quick, queue.prepare_data(jobs.flood, (3_000_000,))])
    start_daemon(*REUSED)

    made[-1].wait(WAIT_S)

    result = made[-1].latest_result()
    assert result is not None
    assert len(result.output) == 65536


def test_a_job_that_turns_its_channel_fails_and_holds_up_nobody(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    turns = queue.prepare_data(hostile_jobs.turn_the_channel, timeout=-1)
    quick = [queue.prepare_data(jobs.multiply, (2, 3), timeout=-1) for _ in range(100)]
    made = queue.enqueue_many([*quick[:50], turns, *quick[50:]])
    start_daemon(*REUSED, workers=1)

    for job in made:
        job.wait(WAIT_S)

    assert made[50].cause == "crashed: exit status 70"
    assert [job.return_value() for job in made] == [6] * 50 + [None] + [6] * 50


def test_a_kill_that_comes_late_meets_no_job_but_the_one_it_was_meant_for(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, fifo: str
) -> None:
    histories = [tmp_path / name for name in ("one", "next")]
    meant, other = [queue.enqueue(jobs.note_and_hold, str(path), fifo) for path in histories]
    daemon = start_daemon(*REUSED, workers=1)
    eventually(lambda: has_text(histories[0]))

    daemon.zygote().suspend()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: "killing the running jobs" in daemon.log())
    release(fifo)
    assert meant.wait(WAIT_S).is_finished
    daemon.zygote().resume()
    eventually(lambda: has_text(histories[1]))
    release(fifo)

    assert other.wait(WAIT_S).is_finished, other.cause
