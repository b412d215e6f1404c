"""rqd at work: real files, real failures, no server to install. `bin/demo` runs it.

An embedded Valkey and a daemon with four workers count the words in the comments and docstrings of
the largest modules of Python's standard library, in parallel. Among them: a job that fails, one
that kills its own process, one that succeeds at the third attempt. Exits 0 only if each job came to
the end that was expected of it, and the daemon stopped as told.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
import jobs

from rqd import Job, Queue, Retry, use_redis
from rqd.cli.output import echo_table
from rqd.job import JobStatus
from rqd.results import Result

HERE = Path(__file__).parent
WORKERS = 4
FILES = 60
READY_WITHIN_S = 30.0
DONE_WITHIN_S = 60.0
STOPPED_WITHIN_S = 15.0
ENDED = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED}


class DemoFailed(Exception):
    """The daemon did not start or stop as it should, or the jobs did not end."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A job that is over: as it stands, its attempts (the latest first), and what it returned."""

    name: str
    job: Job[Any]
    status: JobStatus
    attempts: list[Result]
    value: Any
    is_as_expected: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A job of the demo, and a check of what became of it."""

    name: str
    job: Job[Any]
    check: Callable[[Job[Any], list[Result], Any], bool]

    def ending(self) -> Ending:
        """What Redis knows of it now."""
        job = Job.fetch(self.job.id)
        attempts = job.results()
        value = job.return_value()
        expected = self.check(job, attempts, value)
        return Ending(self.name, job, job.get_status(), attempts, value, expected)


def main() -> int:
    """Runs the demo in a folder of its own and returns the exit status."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)  # so that the daemon is stopped, whoever ends the demo
    # /tmp and not TMPDIR: the path of a unix socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rqd-demo-", dir="/tmp"))
    started = time.monotonic()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without UTF-8
    try:
        endings, daemon_status = _run(folder)
    except DemoFailed as failure:
        click.secho(f"demo: {failure}", fg="red", err=True)
        if (folder / "daemon.log").exists():
            click.echo((folder / "daemon.log").read_text(errors="replace"), err=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _verdict(endings, daemon_status, time.monotonic() - started)


def _run(folder: Path) -> tuple[list[Ending], int]:
    url = f"embedded:{folder}/redis"
    with _daemon(url, folder) as daemon:
        use_redis(url)
        tasks = _enqueue_all(folder)
        _follow(tasks, daemon)
        endings = [task.ending() for task in tasks]
        _show(endings)
        click.echo()
        click.echo("stopping the daemon with SIGTERM")
        daemon.terminate()
        try:
            return endings, daemon.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the daemon runs on {STOPPED_WITHIN_S:g} s after SIGTERM") from None


# -- the daemon ------------------------------------------------------------------------------


@contextmanager
def _daemon(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that runs jobs when the block begins, and is gone when it ends."""
    command = [
        *(sys.executable, "-m", "rqd", "start", "--url", url, "--queues", "high,low"),
        *("--workers", str(WORKERS), "--path", str(HERE), "--preload", "jobs"),
    ]
    # As systemd does it: the daemon says READY=1 to the socket named here.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        with (folder / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            )
        try:
            _wait_until_ready(notify, daemon)
            shown = f"pid {daemon.pid}, {WORKERS} workers, queues high before low, embedded Valkey"
            click.echo(f"{click.style('rqd', bold=True)} is ready: {shown}")
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.terminate()
                try:
                    daemon.wait(STOPPED_WITHIN_S)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


def _wait_until_ready(notify: socket.socket, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise DemoFailed(f"the daemon ended at once, with status {daemon.returncode}")
        readable, _, _ = select.select([notify], [], [], 0.1)
        if readable and b"READY=1" in notify.recv(4096).split(b"\n"):
            return
    raise DemoFailed(f"the daemon was not ready within {READY_WITHIN_S:g} s")


def _leave(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


# -- the work --------------------------------------------------------------------------------


def _enqueue_all(folder: Path) -> list[Task]:
    high, low = Queue("high"), Queue("low")
    modules = Path(sysconfig.get_path("stdlib")).glob("*.py")
    largest = sorted(modules, key=lambda path: path.stat().st_size)[-FILES:]
    # A round trip for each queue. What is on `high` comes later, and goes before the rest of `low`.
    small, large = largest[: FILES // 4], largest[FILES // 4 :]
    calls = folder / "calls"
    calls.mkdir()
    tasks = []
    for queue, paths in ((low, large), (high, small)):
        datas = [Queue.prepare_data(jobs.count_words, [str(path)]) for path in paths]
        for path, job in zip(paths, queue.enqueue_many(datas), strict=True):
            tasks.append(Task(f"count_words({path.name})", job, _counted))
    flaky = low.enqueue(jobs.call_flaky_service, str(calls), retry=Retry(max=3, interval=0.3))
    crashing = high.enqueue(jobs.read_null_pointer)
    failing = high.enqueue(jobs.total_of_prices, ["EUR 9.99", "EUR twelve"])
    return [
        *tasks,
        Task("call_flaky_service()", flaky, _succeeded_at_third),
        Task("total_of_prices(..)", failing, _raised_value_error),
        Task("read_null_pointer()", crashing, _crashed),
    ]


def _counted(job: Job[Any], attempts: list[Result], value: Any) -> bool:
    return job.is_finished and len(attempts) == 1 and isinstance(value, Counter)


def _succeeded_at_third(job: Job[Any], attempts: list[Result], value: Any) -> bool:
    seen = [attempt.type for attempt in reversed(attempts)]
    wanted = [Result.Type.RETRIED, Result.Type.RETRIED, Result.Type.SUCCESSFUL]
    return job.is_finished and seen == wanted and value == "answered call 3"


def _raised_value_error(job: Job[Any], attempts: list[Result], _value: Any) -> bool:
    cause, traceback = job.cause or "", attempts[0].exc_string or ""
    return job.is_failed and cause.startswith("raised ValueError") and "_price" in traceback


def _crashed(job: Job[Any], _attempts: list[Result], _value: Any) -> bool:
    return job.is_failed and (job.cause or "").startswith("crashed: SIGSEGV")


# -- live progress ---------------------------------------------------------------------------


def _follow(tasks: Sequence[Task], daemon: subprocess.Popen[bytes]) -> None:
    """Shows how far the jobs are, until all have ended."""
    progress = Progress(len(tasks))
    waiting = {task.job.id for task in tasks}
    deadline = time.monotonic() + DONE_WITHIN_S
    while True:
        now = [job for job in Job.fetch_many(waiting) if job is not None]
        states = Counter(job.get_status(refresh=False) for job in now)
        waiting -= {job.id for job in now if job.get_status(refresh=False) in ENDED}
        progress.show(len(tasks) - len(waiting), states)
        if not waiting:
            return
        if daemon.poll() is not None:
            raise DemoFailed(f"the daemon ended with status {daemon.returncode}")
        if time.monotonic() >= deadline:
            raise DemoFailed(f"{len(waiting)} jobs have not ended after {DONE_WITHIN_S:g} s")
        time.sleep(0.02)


class Progress:
    """One line that is written over on a terminal; in a pipe, a line for every quarter done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_live = sys.stdout.isatty()
        self._next_line_at = 0

    def show(self, done: int, states: Counter[JobStatus]) -> None:
        told = (
            f"{done:>2}/{self._total} done, {states[JobStatus.STARTED]} running, "
            f"{states[JobStatus.QUEUED]} queued, {states[JobStatus.SCHEDULED]} to be retried"
        )
        if self._is_live:
            width = 20  # with its text no wider than a terminal of 80 columns
            filled = width * done // self._total
            bar = click.style("█" * filled, fg="green") + "░" * (width - filled)
            end = "\n" if done == self._total else ""
            click.echo(f"\r\033[2K{bar} {told}{end}", nl=False)
        elif done >= self._next_line_at:
            click.echo(told)
            self._next_line_at = min(self._total, done + self._total // 4)


# -- what came of it -------------------------------------------------------------------------


def _show(endings: Sequence[Ending]) -> None:
    heads = ("job", "queue", "worker pid", "state", "wait ms", "run ms", "result or cause")
    click.echo()
    echo_table("What became of each job", heads, [_row(ending) for ending in endings])
    _show_traceback(endings)
    _show_words(endings)


def _row(ending: Ending) -> tuple[object, ...]:
    job = ending.job
    latest = ending.attempts[0].details if ending.attempts else {}
    wait_ms = run_ms = 0.0
    if job.started_at and job.enqueued_at:
        wait_ms = (job.started_at - job.enqueued_at).total_seconds() * 1000
    if "wall_s" in latest:
        run_ms = float(latest["wall_s"]) * 1000
    return (
        ending.name,
        job.origin,
        latest.get("pid", "?"),
        str(ending.status),
        round(wait_ms, 1),
        round(run_ms, 1),
        _result_or_cause(ending),
    )


def _result_or_cause(ending: Ending) -> str:
    if ending.status is not JobStatus.FINISHED:
        return str(ending.job.cause)
    if isinstance(ending.value, Counter):
        return f"{ending.value.total():,} words, {len(ending.value):,} different"
    attempts = len(ending.attempts)
    return f"{ending.value}, at attempt {attempts}" if attempts > 1 else str(ending.value)


def _show_traceback(endings: Sequence[Ending]) -> None:
    for ending in endings:
        text = ending.attempts[0].exc_string if ending.attempts else None
        if text:
            click.echo()
            click.secho(f"The traceback of {ending.name}", bold=True)
            click.secho("".join(f"  {line}\n" for line in text.splitlines()), fg="red", nl=False)


def _show_words(endings: Sequence[Ending]) -> None:
    total: Counter[str] = Counter()
    for ending in endings:
        if isinstance(ending.value, Counter):
            total += ending.value
    top = total.most_common(10)
    if not top:
        return
    click.echo()
    title = f"What the standard library talks about: {total.total():,} words of its prose"
    click.secho(title, bold=True)
    for word, count in top:
        bar = "▇" * max(1, 40 * count // top[0][1])
        click.echo(f"  {word:<12} {count:>5,} {click.style(bar, fg='cyan')}")


def _verdict(endings: Sequence[Ending], daemon_status: int, took_s: float) -> int:
    wrong = [ending for ending in endings if not ending.is_as_expected]
    for ending in wrong:
        told = f"{ending.name} {ending.status}, {ending.job.cause or 'no cause'}"
        click.secho(f"demo: not as expected: {told}", fg="red", err=True)
    if daemon_status != 0:
        click.secho(f"demo: the daemon exited with {daemon_status}", fg="red", err=True)
    if wrong or daemon_status != 0:
        return 1
    told = f"the daemon exited with 0; all {len(endings)} jobs ended as expected, in {took_s:.1f} s"
    click.secho(told, fg="green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
