"""rqd at work: real files, real failures, no server to install. `bin/demo` runs it.

An embedded Valkey and a daemon with four workers count the words in the comments and docstrings of
the largest modules of Python's standard library, in parallel. Four other jobs are of interest: one
crashes its process, one needs more memory than it may have, one raises an error, one succeeds at
its third attempt. Exits 0 only if each job came to its expected end, and the daemon stopped well.

With `--web` a dashboard of the same jobs is served until Ctrl-C, while further jobs run.
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
from rqd import Job, Queue, Retry, use_redis
from rqd.cli.history import sparkline
from rqd.cli.output import echo_table
from rqd.job import JobStatus
from rqd.results import Result

import jobs

HERE = Path(__file__).parent
WORKERS = 4
FILES = 60
READY_WITHIN_S = 30.0
DONE_WITHIN_S = 60.0
STOPPED_WITHIN_S = 15.0
MEMORY_LIMIT = "48M"
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


@click.command()
@click.option("--web", is_flag=True, help="Serve a dashboard of the jobs until Ctrl-C.")
def main(web: bool) -> None:
    """Run jobs that count, crash, need too much memory, fail and are retried."""
    sys.exit(run(web))


def run(has_web: bool) -> int:
    """Runs the demo in a folder of its own and returns the exit status."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)  # so that the daemon is stopped, whoever ends the demo
    # /tmp and not TMPDIR: the path of a unix socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rqd-demo-", dir="/tmp"))
    started = time.monotonic()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without UTF-8
    try:
        endings, daemon_status = _run(folder, has_web)
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


def _run(folder: Path, has_web: bool) -> tuple[list[Ending], int]:
    url = f"embedded:{folder}/redis"
    with _daemon(url, folder) as daemon:
        use_redis(url)
        tasks = _enqueue_all(folder)
        _follow(tasks, daemon)
        endings = [task.ending() for task in tasks]
        _show(endings)
        if has_web:
            _serve(url, daemon)
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
    hog = high.enqueue(jobs.load_whole_table, max_memory=MEMORY_LIMIT)
    failing = high.enqueue(jobs.total_of_prices, ["EUR 9.99", "EUR twelve"])
    return [
        Task("read_null_pointer()", crashing, _crashed),
        Task("load_whole_table()", hog, _out_of_memory),
        Task("total_of_prices(..)", failing, _raised_value_error),
        Task("call_flaky_service()", flaky, _succeeded_at_third),
        *tasks,
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


def _out_of_memory(job: Job[Any], _attempts: list[Result], _value: Any) -> bool:
    return job.is_failed and (job.cause or "").startswith("out of memory: ")


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
    counted = [ending for ending in endings if isinstance(ending.value, Counter)]
    rows = [_row(ending) for ending in endings if ending not in counted]
    click.echo()
    echo_table("Four jobs of interest", ("job", "state", "result or cause"), rows)
    for ending in endings:
        if ending not in counted and ending.attempts:
            _show_attempt(ending)
    _show_counts(counted)
    _show_words(counted)


def _row(ending: Ending) -> tuple[object, ...]:
    return (ending.name, str(ending.status), _result_or_cause(ending))


def _result_or_cause(ending: Ending) -> str:
    if ending.status is not JobStatus.FINISHED:
        return str(ending.job.cause)
    attempts = len(ending.attempts)
    return f"{ending.value}, at attempt {attempts}" if attempts > 1 else str(ending.value)


def _show_attempt(ending: Ending) -> None:
    """Shows the proof of a failure: the traceback, the stack at the crash, the memory."""
    attempt = ending.attempts[0]
    if attempt.exc_string:
        _show_text(f"The traceback of {ending.name}", attempt.exc_string)
    elif attempt.stack:
        _show_text(f"The stack of {ending.name} at its crash", attempt.stack)
    limit, peak = (
        attempt.details.get(name) for name in ("memory_limit_bytes", "peak_memory_bytes")
    )
    if limit and peak:
        width = 40
        used = min(2 * width, round(width * peak / limit))
        bar = click.style("▇" * min(used, width), fg="cyan")
        beyond = click.style("▇" * max(0, used - width), fg="red")
        click.echo()
        click.secho(f"The memory of {ending.name}", bold=True)
        click.echo(f"  limit {limit / 2**20:5.0f} MiB {'▇' * width}")
        click.echo(f"  peak  {peak / 2**20:5.0f} MiB {bar}{beyond}")


def _show_text(title: str, text: str) -> None:
    click.echo()
    click.secho(title, bold=True)
    click.secho("".join(f"  {line}\n" for line in text.splitlines()), fg="red", nl=False)


def _show_counts(counted: Sequence[Ending]) -> None:
    """Shows all word counts in a line, with their run times as a bar of blocks."""
    runs_ms = sorted(float(ending.attempts[0].details["wall_s"]) * 1000 for ending in counted)
    if not runs_ms:
        return
    buckets = Counter(min(19, int(20 * ms / (runs_ms[-1] + 1))) for ms in runs_ms)
    shape = sparkline([buckets[at] for at in range(20)])
    pids = {ending.attempts[0].details["pid"] for ending in counted}
    click.echo()
    click.secho(f"{len(counted)} word counts, each in a process of its own", bold=True)
    click.echo(
        f"  {len(pids)} processes, {runs_ms[0]:.0f} ms {click.style(shape, fg='cyan')}"
        f" {runs_ms[-1]:.0f} ms a job, half of them within {runs_ms[len(runs_ms) // 2]:.0f} ms"
    )


def _show_words(counted: Sequence[Ending]) -> None:
    total: Counter[str] = Counter()
    for ending in counted:
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


# -- the dashboard ---------------------------------------------------------------------------


def _serve(url: str, daemon: subprocess.Popen[bytes]) -> None:
    """Serves a dashboard until Ctrl-C, and enqueues a job now and then, so that it moves."""
    command = [sys.executable, "-m", "rqd", "web", "--url", url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as web:
        assert web.stdout is not None
        try:
            address = web.stdout.readline()
            if not address:
                raise DemoFailed(f"the dashboard ended with status {web.wait()}")
            click.echo()
            click.secho(address.rstrip(), bold=True)
            while daemon.poll() is None and web.poll() is None:
                for path in sorted(Path(jobs.__file__).parent.glob("*.py")):
                    Queue("low").enqueue(jobs.count_words, str(path))
                time.sleep(1.0)
        except KeyboardInterrupt:
            pass
        finally:
            web.terminate()


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
    main()
