"""A program written for RQ runs with `rqd` for `rq` in its imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import bound_to_pytest

PROGRAM = Path(__file__).parent.parent / "rq_program"
LIMIT_S = 110.0
# What it covers: a docstring of program.py each.
COVERED = [
    "Queues: enqueue with options, enqueue_call, args and kwargs apart, positions, counts",
    "Jobs: create, fetch, fetch_many, exists, states, times, results, cancel, delete, requeue",
    "What can be enqueued: methods, static and class methods, callables, builtins, coroutines",
    "enqueue_many with prepare_data, in one round trip, and pipelines",
    "The job decorator: delay and enqueue",
    "Retries: at once, with intervals, and by a job that returns a Retry",
    "Schedules: enqueue_at, enqueue_in, the scheduled registry, repeats",
    "Dependencies: on one job, on several, in spite of failure, across queues",
    "Callbacks: on_success, on_failure",
    "Registries: finished, failed, canceled, started; ids, requeue, remove, cleanup",
    "Exception handlers of a worker",
    "Tests: is_async=False and SimpleWorker",
    "Serializers: JSON instead of pickle",
    "Groups: create, enqueue_many, fetch, get_jobs, all",
    "Cron: entries with an interval and with a cron string",
    "Which queue comes next: in order of precedence, in turns",
    "Limits: how many jobs of a key run at a time, one job of an id",
    "Webhooks: told of a success and of a failure",
    "Suspension: suspend, is_suspended, resume",
    "Workers and control: all, count, states, a running job stopped, on_stopped, a shutdown",
    "As applications write it: older paths, the queue's and the job's own connection",
]


def moved(text: str) -> str:
    """The program after its migration: the name of the package, where it is imported and used."""
    text = re.sub(r"^(from|import) rq\b", r"\1 rqd", text, flags=re.M)
    return re.sub(r"\brq\.(?=__name__|Retry)", "rqd.", text)


@pytest.mark.timeout(120)
def test_a_program_for_rq_runs_with_its_imports_renamed(redis_url: str, tmp_path: Path) -> None:
    for source in PROGRAM.glob("*.py"):
        (tmp_path / source.name).write_text(moved(source.read_text()))

    ran = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PROGRAM_REDIS": redis_url, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        preexec_fn=bound_to_pytest(LIMIT_S),
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr[-5000:]
    assert ran.stdout.splitlines() == ["rqd", *COVERED]
