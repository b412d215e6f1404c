"""The names users import, at the paths RQ's users know, and what those have.

Each name of RQ 3.0's public surface is here. It exists, or stands in NOT_HERE with the words by
which docs/migrating-from-rq.md says what to write instead.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rqd
import rqd.testing
from rqd.client.options import WAITS, JobOptions, job_options

PAGE = Path(__file__).parent.parent.parent / "docs" / "migrating-from-rq.md"

MODULES = {
    "rqd": "Callback Connection Queue RateLimit Repeat Retry SimpleWorker SpawnWorker VERSION"
    " Webhook Worker get_current_connection get_failed_queue push_connection use_connection"
    " cancel_job get_current_job requeue_job",
    "rqd.rate_limit": "RateLimit RateLimitRegistry",
    "rqd.repeat": "Repeat",
    "rqd.utils": "as_text current_timestamp get_version import_attribute now parse_timeout utcnow",
    "rqd.connections": "get_connection_kwargs parse_connection",
    "rqd.version": "VERSION",
    "rqd.command": "send_command send_kill_horse_command send_shutdown_command"
    " send_stop_execution_command send_stop_job_command",
    "rqd.cron": "register CronScheduler",
    "rqd.decorators": "job",
    "rqd.exceptions": "AbandonedJobError DeserializationError DuplicateJobError"
    " InvalidJobDependency InvalidJobOperation InvalidJobOperationError NoSuchGroupError"
    " NoSuchJobError ShutDownImminentException StopRequested TimeoutFormatError",
    "rqd.group": "Group",
    "rqd.job": "Callback Dependency Job JobStatus NoSuchJobError Retry cancel_job get_current_job"
    " requeue_job",
    "rqd.queue": "EnqueueData Queue",
    "rqd.registry": "BaseRegistry CanceledJobRegistry DeferredJobRegistry FailedJobRegistry"
    " FinishedJobRegistry ScheduledJobRegistry StartedJobRegistry clean_registries",
    "rqd.results": "Result",
    "rqd.serializers": "DefaultSerializer JSONSerializer PickleSerializer resolve_serializer",
    "rqd.suspension": "is_suspended resume suspend",
    "rqd.timeouts": "BaseDeathPenalty BaseTimeoutException HorseMonitorTimeoutException"
    " JobTimeoutException TimerDeathPenalty UnixSignalDeathPenalty",
    "rqd.worker": "DequeueStrategy HerokuWorker RandomWorker RoundRobinWorker SimpleWorker"
    " SpawnWorker StopRequested Worker WorkerStatus",
    "rqd.worker_pool": "WorkerPool",
}
MEMBERS = {
    "rqd.Queue": "all canceled_job_registry count create_job deferred_job_registry delete empty"
    " enqueue enqueue_at enqueue_call enqueue_in enqueue_job enqueue_many failed_job_registry"
    " fetch_job finished_job_registry get_job_ids get_job_position get_jobs is_empty job_ids jobs"
    " prepare_data remove schedule_job scheduled_job_registry started_job_registry",
    "rqd.job.Job": "allow_dependency_failures args cancel create created_at delete"
    " dependencies_are_met dependency dependency_ids dependent_ids"
    " description ended_at enqueue_at_front_on_retry enqueued_at exc_info exists failure_callback"
    " failure_ttl fetch fetch_many func"
    " func_name get_call_string get_id get_meta get_position get_status get_ttl group_id"
    " id is_canceled is_deferred"
    " is_failed is_finished is_queued is_scheduled is_started is_stopped kwargs last_heartbeat"
    " has_rate_limit latest_result meta number_of_retries origin perform refresh"
    " repeats_left requeue result result_ttl results"
    " retries_left retry_intervals return_value save save_meta started_at"
    " stopped_callback success_callback timeout ttl webhooks"
    " worker_name",
    "rqd.registry.FailedJobRegistry": "add cleanup count get_expiration_time get_job_count"
    " get_job_ids get_queue remove requeue __contains__ __len__",
    "rqd.registry.ScheduledJobRegistry": "get_expiration_time get_scheduled_time",
    "rqd.results.Result": "Type",
    "rqd.Worker": "all connection count queue_class queue_names work",
    "rqd.client.worker_info.LiveWorker": "birth_date failed_job_count get_current_job"
    " get_current_job_id get_state hostname last_heartbeat pid queue_names queues state"
    " successful_job_count total_working_time version",
    "rqd.group.Group": "all cleanup create enqueue_many fetch get_jobs",
}
# Parameters by name, where RQ's users write them by name.
PARAMETERS = {
    "rqd.Queue": "name connection default_timeout is_async job_class serializer",
    "rqd.Queue.enqueue_call": "func args kwargs timeout pipeline",
    "rqd.Queue.enqueue_many": "job_datas pipeline group_id",
    "rqd.Queue.enqueue_at": "datetime f",
    "rqd.Queue.enqueue_in": "time_delta func",
    "rqd.Queue.enqueue_job": "job pipeline at_front",
    "rqd.Queue.get_jobs": "offset length",
    "rqd.Queue.delete": "delete_jobs",
    "rqd.job.Job.create": "func args kwargs connection id origin serializer",
    "rqd.job.Job.fetch": "id connection serializer",
    "rqd.job.Job.delete": "delete_dependents",
    "rqd.job.Job.cancel": "enqueue_dependents",
    "rqd.job.Job.requeue": "at_front",
    "rqd.job.Job.latest_result": "timeout",
    "rqd.job.Job.return_value": "refresh",
    "rqd.job.cancel_job": "job_id connection serializer enqueue_dependents",
    "rqd.job.requeue_job": "job_id connection serializer",
    "rqd.registry.FailedJobRegistry": "name connection job_class queue serializer",
    "rqd.registry.FailedJobRegistry.get_job_ids": "start end desc cleanup",
    "rqd.registry.FailedJobRegistry.remove": "job delete_job",
    "rqd.Queue.all": "connection job_class serializer",
    "rqd.SimpleWorker.work": "burst max_jobs max_idle_time dequeue_strategy",
    "rqd.Worker": "queues name connection exception_handlers",
    "rqd.Worker.work": "burst max_jobs max_idle_time",
    "rqd.worker_pool.WorkerPool": "queues connection num_workers worker_class exception_handlers",
    "rqd.worker_pool.WorkerPool.start": "burst logging_level",
    "rqd.Retry": "max interval enqueue_at_front",
    "rqd.Repeat": "times interval",
    "rqd.RateLimit": "key concurrency",
    "rqd.Callback": "func timeout",
    "rqd.Webhook": "url job_status method headers timeout",
    "rqd.job.Dependency": "jobs allow_failure enqueue_at_front",
    "rqd.decorators.job": "queue connection timeout",
    "rqd.cron.register": "func queue_name args kwargs interval cron job_timeout name",
}
OPTIONS = (
    "job_timeout description result_ttl ttl failure_ttl depends_on job_id at_front meta retry"
    " repeat on_success on_failure on_stopped rate_limit webhooks unique"
)
# What `import rq` alone makes an attribute of it: `rq.job.Job.fetch(..)` is how many write it.
AFTER_THE_IMPORT = (
    "callbacks command connections cron decorators exceptions group job queue rate_limit"
    " registry repeat results serializers"
    " suspension timeouts utils version webhook worker worker_pool"
)
NOT_HERE = {
    "rqd.Connection": "`Connection`",
    "rqd.VERSION": "`rq.VERSION`",
    "rqd.rate_limit.RateLimitRegistry": "`RateLimitRegistry`",
    "rqd.utils.as_text": "`rq.utils`",
    "rqd.utils.current_timestamp": "`rq.utils`",
    "rqd.utils.get_version": "`rq.utils`",
    "rqd.utils.import_attribute": "`rq.utils`",
    "rqd.utils.now": "`rq.utils`",
    "rqd.utils.parse_timeout": "`rq.utils`",
    "rqd.utils.utcnow": "`rq.utils`",
    "rqd.connections.get_connection_kwargs": "`rq.connections`",
    "rqd.connections.parse_connection": "`rq.connections`",
    "rqd.command.send_command": "`send_command`",
    "rqd.command.send_stop_execution_command": "`send_stop_execution_command`",
    "rqd.get_current_connection": "`get_current_connection`",
    "rqd.get_failed_queue": "`get_failed_queue`",
    "rqd.push_connection": "`push_connection`",
    "rqd.use_connection": "`use_connection`",
    "rqd.SpawnWorker": "`SpawnWorker`",
    "rqd.worker.SpawnWorker": "`SpawnWorker`",
    "rqd.worker.HerokuWorker": "`HerokuWorker`",
    "rqd.exceptions.InvalidJobDependency": "`InvalidJobDependency`",
    "rqd.exceptions.InvalidJobOperationError": "`InvalidJobOperationError`",
    "rqd.exceptions.ShutDownImminentException": "`ShutDownImminentException`",
    "rqd.exceptions.StopRequested": "`StopRequested`",
    "rqd.worker.StopRequested": "`StopRequested`",
    "rqd.timeouts.HorseMonitorTimeoutException": "`HorseMonitorTimeoutException`",
    "rqd.exceptions.TimeoutFormatError": "`TimeoutFormatError`",
    "rqd.timeouts.BaseDeathPenalty": "`BaseDeathPenalty`",
    "rqd.timeouts.BaseTimeoutException": "`BaseTimeoutException`",
    "rqd.timeouts.TimerDeathPenalty": "`TimerDeathPenalty`",
    "rqd.timeouts.UnixSignalDeathPenalty": "`UnixSignalDeathPenalty`",
}


def find(dotted: str) -> Any:
    """What has this name; AttributeError or ImportError if nothing has."""
    parts = dotted.split(".")
    found: Any = importlib.import_module(parts[0])
    for at, part in enumerate(parts[1:], 1):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[: at + 1]))
    return found


def is_there(dotted: str) -> bool:
    try:
        find(dotted)
    except (ImportError, AttributeError):
        return False
    return True


NAMES = [
    f"{home}.{name}"
    for table in (MODULES, MEMBERS)
    for home, names in table.items()
    for name in names.split()
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_rqs_is_where_it_is_looked_for_or_explained(name: str) -> None:
    home = name.rpartition(".")[0]
    explained = NOT_HERE.get(name) or NOT_HERE.get(home)

    if explained is None:
        assert is_there(name)
    else:
        assert not is_there(name), "it is there: take it off the list"
        assert explained in PAGE.read_text()


@pytest.mark.parametrize("module", AFTER_THE_IMPORT.split())
def test_a_module_is_there_once_the_package_is_imported(module: str) -> None:
    # In a process of its own: whatever imports the module sets the attribute, too.
    looked_up = subprocess.run(
        [sys.executable, "-c", f"import rqd; print(rqd.{module}.__name__)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (looked_up.stdout, looked_up.stderr) == (f"rqd.{module}\n", "")


def test_modules_of_the_client_are_imported_where_the_kernel_is_not_linux() -> None:
    # The names in these modules that macOS lacks.
    missing = ("fcntl.F_SEAL", "fcntl.F_SETSIG", "os.pidfd", "os.memfd", "select.epoll")
    script = f"""
import fcntl, importlib, os, re, select
for module in (fcntl, os, select):
    for name in dir(module):
        if re.match({"|".join(missing)!r}, f"{{module.__name__}}.{{name}}"):
            delattr(module, name)
for name in {[*MODULES, "rqd.aio", "rqd.testing.crashes", "rqd.testing.queues"]!r}:
    importlib.import_module(name)
"""

    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("function", PARAMETERS)
def test_what_rqs_users_pass_by_name_is_taken_by_name(function: str) -> None:
    taken = inspect.signature(find(function)).parameters

    assert [name for name in PARAMETERS[function].split() if name not in taken] == []


def test_enqueue_has_rqs_options() -> None:
    assert set(OPTIONS.split()) <= JobOptions.__dataclass_fields__.keys()
    job_options(None, dict.fromkeys(OPTIONS.split()))


def test_the_help_of_enqueue_lists_every_option_and_no_other() -> None:
    lines = (inspect.getdoc(rqd.Queue.enqueue) or "").splitlines()
    listed = [line.split("  ")[2].strip() for line in lines if line.startswith("    ")]

    names = {name for names in listed for name in names.split(", ")}
    others = {"args", "kwargs", "pipeline"} | WAITS
    assert names == (JobOptions.__dataclass_fields__.keys() - {"group_id"}) | others
    assert len(listed) == len(names) - 1  # args and kwargs stand together


def test_all_lists_every_name_there_is() -> None:
    assert set(rqd.__all__) == {"__version__", *rqd._HOME}
    assert dir(rqd) == rqd.__all__
    for name in rqd.__all__:
        getattr(rqd, name)


def test_testing_lists_every_name_it_has() -> None:
    assert set(rqd.testing.__all__) == set(rqd.testing._HOME) == set(dir(rqd.testing))
    for name in rqd.testing.__all__:
        assert getattr(rqd.testing, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rqd' has no attribute 'Nothing'"):
        _ = rqd.Nothing


@pytest.mark.parametrize("name", NOT_HERE)
def test_who_imports_what_rq_alone_has_reads_what_to_write_instead(name: str) -> None:
    module, _, short = name.rpartition(".")

    with pytest.raises(ImportError, match=f"{module} has no {short}: .*(write|call|leave)"):
        exec(f"from {module} import {short}", {})


def test_names_that_rq_has_in_two_places_are_the_same_in_both() -> None:
    import rqd.job
    from rqd.exceptions import NoSuchJobError

    assert rqd.job.Retry is rqd.Retry
    assert rqd.job.Callback is rqd.Callback
    assert rqd.job.NoSuchJobError is NoSuchJobError
