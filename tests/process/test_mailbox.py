"""Children that take many jobs go on by themselves: each job's words, end and death are its own."""

from __future__ import annotations

from pathlib import Path

from rqd import Queue
from rqd.job import JobStatus
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

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
