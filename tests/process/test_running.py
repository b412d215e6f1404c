"""A job's way through a real daemon: what it returns, raises, prints, and how it can die."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from rqd import Queue, Retry
from rqd.client.connection import Backend
from rqd.job import Job
from rqd.results import Result
from rqd.store.scripts import load_script
from tests import jobs
from tests.cli.running import rqd
from tests.daemons import StartDaemon
from tests.relay import Relay
from tests.servers import RedisServer
from tests.waiting import eventually, has_text

WAIT_S = 10.0


def ended(job: Job[Any]) -> Result:
    result = job.latest_result(timeout=WAIT_S)
    assert result is not None, f"{job} is {job.get_status()}"
    return result


def test_a_call_runs_and_its_result_comes_back(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    job = queue.enqueue(jobs.multiply, 20, y=40)
    assert ended(job).return_value == 800
    assert job.return_value() == 800
    assert job.is_finished
    assert job.created_at <= job.enqueued_at <= job.started_at <= job.ended_at  # type: ignore[operator]  # they are there


def test_jobs_wait_for_a_daemon_and_keep_their_order(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    history = str(tmp_path / "history")
    all_jobs = [queue.enqueue(jobs.append, history, str(n)) for n in range(8)]
    all_jobs += [queue.enqueue(jobs.append, history, "front", at_front=True)]
    assert all_jobs[0].return_value() is None
    start_daemon("--burst").wait()
    assert Path(history).read_text().split() == ["front", *map(str, range(8))]


def test_queues_have_strict_precedence(
    start_daemon: StartDaemon, there: Backend, tmp_path: Path
) -> None:
    history = str(tmp_path / "history")
    for name in ("low", "high", "low", "high"):
        Queue(name, there).enqueue(jobs.append, history, name)
    start_daemon("--burst", queues="high,low").wait()
    assert Path(history).read_text().split() == ["high", "high", "low", "low"]


def test_a_coroutine_function_is_awaited(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    assert ended(queue.enqueue(jobs.slowly_multiply, 6, 7)).return_value == 42


def test_coroutines_that_share_a_process_share_its_event_loop(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--jobs-per-child", "9", "--workers", "1", "--preload", "tests.jobs,asyncio")
    seen = [ended(queue.enqueue(jobs.loop_and_ticks)).return_value for _ in range(3)]
    assert len({(pid, loop) for pid, loop, _ in seen}) == 1
    ticks = [ticks for _, _, ticks in seen]
    assert ticks == sorted(set(ticks))  # the first job's task goes on
    # The loop that a time limit has interrupted is not used again.
    assert ended(queue.enqueue(jobs.await_for_ever, job_timeout=0.2)).cause is not None
    after = ended(queue.enqueue(jobs.loop_and_ticks)).return_value
    assert after[:2] != seen[0][:2]
    assert after[0] == seen[0][0]


def test_the_tasks_that_coroutines_leave_are_canceled_at_the_end_of_their_process(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon("--jobs-per-child", "2", "--workers", "1")
    history = tmp_path / "history"
    first = ended(queue.enqueue(jobs.leave_a_task, str(history))).return_value
    assert not history.exists()
    assert ended(queue.enqueue(jobs.leave_a_task, str(history))).return_value == first
    eventually(lambda: history.exists() and history.read_text().split() == ["canceled"] * 2, WAIT_S)


def test_a_coroutine_in_a_thread_of_a_job_has_a_loop_of_its_own(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--jobs-per-child", "9", "--workers", "1")
    assert ended(queue.enqueue(jobs.slowly_multiply, 6, 7)).return_value == 42
    assert ended(queue.enqueue(jobs.multiply_in_thread, 6, 7)).return_value == 42
    assert ended(queue.enqueue(jobs.slowly_multiply, 6, 7)).return_value == 42


def test_an_exception_fails_the_job_with_its_traceback(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.fail, "the price is wrong")
    result = ended(job)
    assert result.type == "failed"
    assert result.cause == "raised ValueError: the price is wrong"
    assert result.exc_string is not None
    assert "in fail" in result.exc_string
    assert result.exc_string.strip().endswith("ValueError: the price is wrong")
    assert "rqd/daemon" not in result.exc_string
    assert job.exc_info == result.exc_string
    assert job.is_failed
    assert job.return_value() is None


def test_a_dead_child_fails_its_job_with_the_cause(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    deaths: list[tuple[Any, int, str]] = [
        (jobs.signal_self, signal.SIGKILL, "crashed: SIGKILL"),
        (jobs.signal_self, signal.SIGRTMIN + 7, f"crashed: signal {signal.SIGRTMIN + 7}"),
        (jobs.leave, 3, "crashed: exit status 3"),
        (jobs.leave, 0, "crashed: exit status 0"),
        (jobs.sys_exit, 3, "raised SystemExit: 3"),
    ]
    for function, argument, cause in deaths:
        result = ended(queue.enqueue(function, int(argument)))
        assert (result.type, result.cause) == ("failed", cause)
        assert ended(queue.enqueue(jobs.multiply, 2, 3)).return_value == 6, cause


def test_a_segfault_leaves_signal_stack_and_last_words(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    result = ended(queue.enqueue(jobs.segfault))
    assert (result.cause or "").startswith("crashed: SIGSEGV")
    assert result.details["signal"] == signal.SIGSEGV
    assert "in segfault" in (result.stack or "")
    spoken = ended(queue.enqueue(jobs.signal_self, int(signal.SIGABRT)))
    assert "last words" in spoken.output


def test_a_core_dump_is_recorded(start_daemon: StartDaemon, queue: Queue) -> None:
    # Whether the kernel can write a core depends on the machine; the wait status tells either way.
    start_daemon()
    result = ended(queue.enqueue(jobs.signal_self, int(signal.SIGABRT)))
    dumped = result.details["core_dumped"]
    assert result.cause == "crashed: SIGABRT" + (" (core dumped)" if dumped else "")


def test_the_cause_of_a_killed_child_is_known_within_a_tenth_of_a_second(
    start_daemon: StartDaemon, queue: Queue, fifo: str
) -> None:
    """The quickest of five, so that a busy machine doesn't decide; by one clock, the machine's."""
    daemon = start_daemon("--preload", "tests.jobs")
    took_s = []
    for _ in range(5):
        job = queue.enqueue(jobs.hold, fifo)
        child = daemon.titled("rqd: worker 1 tests.jobs.hold")
        killed_at = time.time()
        child.kill()
        assert ended(job).cause == "crashed: SIGKILL"
        job.refresh()
        assert job.ended_at is not None
        took_s.append(job.ended_at.timestamp() - killed_at)
    assert min(took_s) < 0.1, took_s


def test_a_killed_job_keeps_its_peak_memory_and_cpu_time(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    size_bytes = 64 * 1024 * 1024
    hog = ended(queue.enqueue(jobs.hog_memory, size_bytes))
    # What the zygote has mapped of files, and this child has not, is taken off all the same.
    assert 0.95 * size_bytes <= int(hog.details["peak_memory_bytes"]) <= 1.5 * size_bytes
    burner = ended(queue.enqueue(jobs.burn_cpu_and_die, 0.2))
    assert 0.2 <= float(burner.details["cpu_s"]) <= 1.0
    assert int(burner.details["peak_memory_bytes"]) < size_bytes / 2


def test_a_recursion_error_is_an_ordinary_failure(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    result = ended(queue.enqueue(jobs.recurse))
    assert (result.cause or "").startswith("raised RecursionError")


def test_a_timeout_raises_in_the_job(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon("--preload", "tests.jobs")
    result = ended(queue.enqueue(jobs.run_for_ever, job_timeout=0.2))
    assert result.cause == "timed out after 0.2 s"
    assert "in run_for_ever" in (result.exc_string or "")


def test_a_coroutine_that_takes_too_long_tells_what_it_awaited(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    # The import of asyncio takes longer than that on a slow machine.
    start_daemon("--preload", "tests.jobs,asyncio")
    result = ended(queue.enqueue(jobs.await_for_ever, job_timeout=0.2))
    assert result.cause == "timed out after 0.2 s"
    at = (result.exc_string or "").partition("the coroutine awaited:")[2]
    assert re.findall(r"jobs\.py\", line \d+, in (\w+)", at) == ["await_for_ever", "deeper"]


def test_a_timeout_that_is_swallowed_comes_again(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon("--preload", "tests.jobs")
    result = ended(queue.enqueue(jobs.shrug_off_one_timeout, job_timeout=0.2))
    assert result.cause == "timed out after 0.2 s"


def test_a_job_that_never_gives_in_is_killed_five_seconds_later(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--preload", "tests.jobs")
    result = ended(queue.enqueue(jobs.swallow_timeouts, job_timeout=0.2))
    assert result.cause == "timed out after 0.2 s, killed as it did not stop"
    assert 5.2 <= float(result.details["wall_s"]) < 7


def test_a_retry_runs_the_job_again_and_keeps_each_attempt(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    start_daemon()
    job = queue.enqueue(jobs.fail_until, str(tmp_path / "seen"), 3, retry=Retry(max=3))
    assert ended(job).return_value == "after 3"
    assert [result.type for result in job.results()] == ["successful", "retried", "retried"]
    assert [result.attempt for result in job.results()] == [3, 2, 1]
    job.refresh()
    assert job.retries_left == 1


def test_a_retry_waits_for_its_interval(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    job = queue.enqueue(jobs.fail, retry=Retry(max=1, interval=0.3))
    assert eventually(lambda: job.is_scheduled or job.is_failed)
    result = ended(job)
    assert result.type == "failed"
    first, second = reversed(job.results())
    assert (second.created_at - first.created_at).total_seconds() >= 0.3


def test_output_goes_to_the_log_and_to_a_failed_jobs_record(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon()
    ended(queue.enqueue(jobs.say, "to stdout", "to stderr"))
    eventually(lambda: "to stdout\nto stderr\n" in daemon.log())


def test_a_job_that_floods_its_output_or_closes_it_ends_well(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    size_bytes = 3_000_000
    assert ended(queue.enqueue(jobs.flood, size_bytes)).return_value == size_bytes
    assert ended(queue.enqueue(jobs.close_output)).return_value == "silent"
    assert ended(queue.enqueue(jobs.multiply, 3, 5)).return_value == 15


def test_payloads_and_results_of_any_size_come_through(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    for size_bytes in (0, 1000, 64 * 1024 + 1, 5_000_000):
        value = os.urandom(size_bytes)
        # Not left to pytest to compare: it would print both.
        assert (ended(queue.enqueue(jobs.echo, value)).return_value == value) is True, size_bytes


def test_a_result_that_does_not_pickle_fails_its_job(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    result = ended(queue.enqueue(jobs.unpicklable))
    assert result.type == "failed"
    assert "pickle" in (result.cause or "")


def test_bad_payloads_fail_with_their_cause_and_the_daemon_runs_on(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis
) -> None:
    bad = [
        queue.enqueue("tests.jobs.nowhere"),
        queue.enqueue("no_such_module.function"),
        queue.enqueue(jobs.echo, jobs.BadReduce()),
        queue.enqueue(jobs.echo, 1),
    ]
    redis_client.hset(f"{{rqd}}:job:{bad[-1].id}", "payload", b"\x80garbage")
    start_daemon()
    causes = [ended(job).cause or "" for job in bad]
    assert "no 'nowhere'" in causes[0]
    assert "no module for 'no_such_module.function'" in causes[1]
    assert "not a number" in causes[2]
    assert causes[3].startswith("raised ")
    assert ended(queue.enqueue(jobs.multiply, 2, 2)).return_value == 4


def test_a_missing_payload_fails_its_job(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis
) -> None:
    job = queue.enqueue(jobs.echo, "x" * 100_000)
    redis_client.delete(f"{{rqd}}:job:{job.id}:payload")
    start_daemon()
    assert "payload is gone" in (ended(job).cause or "")


def test_each_job_has_a_process_of_its_own(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon()
    assert [ended(queue.enqueue(jobs.count_calls)).return_value for _ in range(3)] == [1, 1, 1]


def test_a_child_may_run_several_jobs(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon("--jobs-per-child", "3")
    counts = [ended(queue.enqueue(jobs.count_calls)).return_value for _ in range(5)]
    assert counts == [1, 2, 3, 1, 2]


def test_a_reused_child_that_crashes_charges_only_its_own_job(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--jobs-per-child", "10")
    assert ended(queue.enqueue(jobs.count_calls)).return_value == 1
    assert ended(queue.enqueue(jobs.leave, 9)).cause == "crashed: exit status 9"
    assert ended(queue.enqueue(jobs.count_calls)).return_value == 1


def test_a_reused_process_whose_job_closed_its_outputs_takes_no_other(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--jobs-per-child", "100")
    queue.enqueue(jobs.close_output).wait(10)
    after = queue.enqueue(jobs.print_here).wait(10)
    assert (after.return_value(), after.output) == ("printed", "here\n")


def test_a_reused_process_whose_job_left_one_running_takes_no_other(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--jobs-per-child", "100")
    queue.enqueue(jobs.leave_a_talker).wait(10)
    after = queue.enqueue(jobs.print_here).wait(10)
    assert (after.return_value(), after.output) == ("printed", "here\n")


def test_preload_imports_before_the_fork(start_daemon: StartDaemon, queue: Queue) -> None:
    daemon = start_daemon("--preload", "tests.jobs,json")
    ended(queue.enqueue(jobs.multiply, 1, 1))
    daemon.titled("rqd: zygote (tests.jobs, json)")


def test_a_preload_that_fails_ends_the_start_with_its_traceback(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--preload", "no_such_application")
    assert daemon.wait() == 78
    assert "ModuleNotFoundError: No module named 'no_such_application'" in daemon.log()
    assert not daemon.leftovers()


def test_a_preload_that_fails_with_words_that_are_no_utf8_ends_the_start_too(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "undecodable.py").write_text(r'raise RuntimeError("can\'t open b\udcff")')
    daemon = start_daemon("--preload", "undecodable", cwd=tmp_path)
    assert daemon.wait() == 78
    assert "RuntimeError: can't open b" in daemon.log()


def test_titles_tell_what_runs_where(start_daemon: StartDaemon, queue: Queue, fifo: str) -> None:
    daemon = start_daemon(workers=2)
    job = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: job.is_started)
    assert daemon.titled("rqd: master [default] 1/2 busy").pid == daemon.pid
    daemon.titled(f"rqd: worker 1 tests.jobs.hold [default] {job.id[:8]} since ")
    daemon.titled("rqd: worker 2 idle")
    daemon.titled("rqd: zygote")
    Path(fifo).write_text("")
    assert ended(job).return_value == "done"


def test_a_job_that_uses_rqd_and_asks_redis_nothing_does_not_load_its_library(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    job = queue.enqueue("tests.ported.look_at_itself")
    assert ended(job).return_value == ("tests.ported.look_at_itself", False)
    assert ended(queue.enqueue("tests.ported.send", "hello")).return_value == "hello"


def test_a_job_knows_itself_and_can_enqueue(start_daemon: StartDaemon, queue: Queue) -> None:
    start_daemon(queues="default,other")
    job = queue.enqueue(jobs.who_am_i)
    assert ended(job).return_value == (job.id, "default")
    another = ended(queue.enqueue(jobs.enqueue_another, 5)).return_value
    assert ended(Job.fetch(another, queue.connection)).return_value == 5


@pytest.mark.parametrize("name", ["numpy.random", "torch.default_generator"])
def test_each_jobs_process_draws_random_numbers_of_its_own(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, name: str
) -> None:
    package, generator = name.split(".")
    # As those of these libraries: made at the import, and seeded anew by its `seed` alone.
    made = f"{generator} = sys.modules['{name}'] = random.Random(1)\n"
    draw = f"def draw():\n    return {generator}.random()\n"
    (tmp_path / f"{package}.py").write_text(f"import random\nimport sys\n\n{made}\n\n{draw}")
    start_daemon("--preload", package, cwd=tmp_path)
    drawn = {ended(queue.enqueue(f"{package}.draw")).return_value for _ in range(3)}
    assert len(drawn) == 3


def test_a_jobs_process_leads_a_group_and_hears_its_own_subprocesses(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon()
    ids = ended(queue.enqueue(jobs.process_ids)).return_value
    assert ids["group"] == ids["pid"]
    assert ended(queue.enqueue(jobs.status_of_a_subprocess)).return_value == 7


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_that_hits_every_process_ends_no_job(
    start_daemon: StartDaemon, queue: Queue, signum: int
) -> None:
    start_daemon()
    assert ended(queue.enqueue(jobs.survive, int(signum))).return_value == "alive"


@pytest.mark.parametrize("jobs_per_child", ["1", "100"])
def test_a_signal_does_to_what_a_job_forks_what_it_does_in_any_program(
    start_daemon: StartDaemon, queue: Queue, jobs_per_child: str
) -> None:
    start_daemon("--jobs-per-child", jobs_per_child)
    assert ended(queue.enqueue(jobs.terminate_a_process)).return_value == -signal.SIGTERM


@pytest.mark.parametrize("jobs_per_child", ["1", "100"])
def test_what_a_job_leaves_running_can_tidy_up_before_it_is_killed(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path, jobs_per_child: str
) -> None:
    left, stubborn = tmp_path / "tidied", "trap '' TERM; sleep 1000 & wait"
    daemon = start_daemon("--jobs-per-child", jobs_per_child, workers=1)
    assert ended(queue.enqueue(jobs.leave_one_that_tidies_up, str(left))).type == "successful"
    eventually(lambda: has_text(left), WAIT_S)
    # And what does not end by itself is killed, as soon as the worker takes another job.
    ended(queue.enqueue(jobs.leave_a_shell, stubborn))
    assert ended(queue.enqueue(jobs.multiply, 6, 7)).return_value == 42
    daemon.stop()
    assert not daemon.leftovers()


def test_burst_returns_when_the_queues_are_empty(start_daemon: StartDaemon, queue: Queue) -> None:
    all_jobs = [queue.enqueue(jobs.multiply, n, n) for n in range(20)]
    daemon = start_daemon("--burst", workers=2)
    assert daemon.wait() == 0
    assert [job.return_value() for job in all_jobs] == [n * n for n in range(20)]
    assert not daemon.leftovers()


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("--burst",), "burst: the queues are empty"),
        (("--max-jobs", "1"), "max-jobs: all have run"),
        (("--max-idle", "0.1"), "max-idle: nothing has run for so long"),
    ],
)
def test_a_daemon_that_ends_by_itself_says_why(
    start_daemon: StartDaemon, queue: Queue, option: tuple[str, ...], why: str
) -> None:
    job = queue.enqueue(jobs.multiply, 2, 3)
    daemon = start_daemon(*option, workers=1)
    assert daemon.wait() == 0
    assert job.return_value() == 6
    (stopping,) = [line for line in daemon.log().splitlines() if "stopping" in line]
    assert why in stopping


def test_a_daemon_is_not_idle_before_it_has_looked_at_its_queues(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.4)\n")
    job = queue.enqueue(jobs.multiply, 2, 3)
    daemon = start_daemon("--max-idle", "0.1", "--preload", "slow", cwd=tmp_path)
    assert daemon.wait() == 0
    assert job.return_value() == 6


def test_who_imports_in_each_job_is_told_what_to_preload(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    text = "import time\ntime.sleep(0.1)\nclass Order:\n    @staticmethod\n    def ship(): pass\n"
    (tmp_path / "slow.py").write_text(text)
    job = queue.enqueue("slow.Order.ship")
    daemon = start_daemon("--burst", "--no-preload-learn", workers=1, cwd=tmp_path)
    assert daemon.wait() == 0
    assert job.is_finished
    (advice,) = [line for line in daemon.log().splitlines() if "imported its module" in line]
    assert "preload=slow " in advice


class SlowToUnpickle:
    """As arguments of many megabytes are."""

    def __reduce__(self) -> tuple[object, tuple[float]]:
        return time.sleep, (0.1,)


def test_arguments_that_take_long_to_unpickle_are_no_reason_to_preload(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    job = queue.enqueue(print, SlowToUnpickle())
    daemon = start_daemon("--burst", workers=1)
    assert daemon.wait() == 0
    assert job.is_finished
    assert "--preload" not in daemon.log()


def test_a_daemon_that_is_stopped_gives_no_reason_of_its_own(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    assert daemon.stop() == 0
    (stopping,) = [line for line in daemon.log().splitlines() if "stopping" in line]
    assert "why" not in stopping


def test_jobs_in_the_future_run_within_50_ms_of_their_time(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon("--preload", "tests.jobs", workers=2)
    first = datetime.now(UTC) + timedelta(seconds=0.3)
    due = [first + n * timedelta(seconds=0.1) for n in range(11)]

    waiting = [queue.enqueue_at(at, jobs.instant) for at in due]

    late_s = sorted(
        ended(job).return_value - at.timestamp() for job, at in zip(waiting, due, strict=True)
    )
    # The machine may be busy at one moment or other; not at most of them.
    assert late_s[0] >= 0
    assert late_s[5] < 0.05, late_s


def test_an_outcome_that_redis_refuses_is_recorded_once_it_can_be(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis, fifo: str
) -> None:
    daemon = start_daemon(workers=2)
    held = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: held.is_started)
    redis_client.set("{rqd}:leases", "no sorted set")
    Path(fifo).write_text("")
    eventually(lambda: "{rqd}:leases holds something that is not rqd's" in daemon.log())
    redis_client.delete("{rqd}:leases")
    assert ended(held).return_value == "done"
    assert held.attempt == 1
    assert ended(queue.enqueue(jobs.multiply, 2, 4)).return_value == 8
    assert daemon.stop() == 0


def test_a_worker_is_busy_until_the_end_of_its_job_is_recorded_wherever_that_is_told(
    start_daemon: StartDaemon, queue: Queue, redis_client: redis.Redis, fifo: str
) -> None:
    daemon = start_daemon("--name", "web", workers=2)
    state_home = {"XDG_STATE_HOME": str(daemon.log_path.parent / "state")}

    def told(busy: int, state: str) -> bool:
        daemon.signal(signal.SIGCONT)  # at which its state is shown on this host
        health = rqd("healthcheck", env=state_home).out
        return f"rqd: master [default] {busy}/2 busy" in daemon.titles() and state in health

    held = queue.enqueue(jobs.hold, fifo)
    eventually(lambda: held.is_started)
    redis_client.set("{rqd}:leases", "no sorted set")
    Path(fifo).write_text("")
    eventually(lambda: "turn refused by redis" in daemon.log())
    eventually(lambda: told(1, "web: busy"), 5.0, daemon.state)
    redis_client.delete("{rqd}:leases")
    assert ended(held).return_value == "done"
    eventually(lambda: told(0, "web: idle"), 5.0, daemon.state)


def test_a_job_sees_the_daemons_environment_and_nothing_of_the_zygotes(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    start_daemon(env={"COLOUR": "blue"})
    assert ended(queue.enqueue(jobs.environment, "COLOUR")).return_value == "blue"
    assert ended(queue.enqueue(jobs.environment, "LD_BIND_NOW")).return_value is None


def test_a_job_that_forks_and_returns_twice_answers_once(
    start_daemon: StartDaemon, queue: Queue
) -> None:
    daemon = start_daemon("--jobs-per-child", "100")
    for number in range(10):
        forked = queue.enqueue(jobs.fork_and_return, number)
        plain = queue.enqueue(jobs.echo, -number)
        assert ended(forked).return_value == number
        assert ended(plain).return_value == -number
    assert "job put back" not in daemon.log(), "what followed was not sent to who leaves"


def test_a_marker_that_comes_before_a_turns_answer_is_not_lost(
    start_daemon: StartDaemon, there: Backend, queue: Queue, server: RedisServer
) -> None:
    with Relay(server.folder / "relay.sock", server.socket_path) as relay:
        start_daemon("--preload", "tests.jobs", url=relay.url)
        assert ended(queue.enqueue(jobs.multiply, 1, 1)).return_value == 1
        relay.keep_back = load_script("turn").sha.encode()
        assert relay.is_kept.wait(WAIT_S)  # it looks once a second; Redis has answered: nothing
        job = queue.enqueue(jobs.multiply, 2, 2)
        keys = there.store.keys
        eventually(lambda: not there.store.redis.exists(keys.wake_queue("default")))
        released = time.monotonic()
        relay.release.set()
        assert ended(job).return_value == 4
        assert time.monotonic() - released < 0.6, "not before its next look"
