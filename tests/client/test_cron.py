"""Cron entries as their users write them: by API and in files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rqd import Retry, cron, use_redis
from rqd.client.connection import Backend
from rqd.cron import CronScheduler
from rqd.job import Job
from rqd.model.errors import (
    ConfigurationError,
    InvalidCallError,
    InvalidJobOperation,
    NoSuchJobError,
    RqdError,
    SignatureError,
)
from rqd.model.records import JobRecord
from rqd.store.crons import Crons
from tests.client import work
from tests.client.performing import perform


def test_an_entry_says_when_it_ran_and_will_run(backend: Backend) -> None:
    entry = cron.register(work.multiply, "low", (6,), {"y": 7}, cron="0 3 1 1 *", name="yearly")

    assert (entry.name, entry.queue_name, entry.func_name) == (
        "yearly",
        "low",
        "tests.client.work.multiply",
    )
    assert (entry.description, entry.schedule) == (
        "tests.client.work.multiply(6, y=7)",
        "0 3 1 1 *",
    )
    assert entry.next_run is not None
    assert (entry.next_run.month, entry.next_run.hour, entry.next_run.tzinfo) == (1, 3, UTC)
    assert (entry.last_run, entry.last_job_id, entry.runs, entry.state) == (None, None, 0, "active")
    assert [one.name for one in cron.entries()] == ["yearly"]


def test_a_run_by_hand_is_a_job_and_changes_no_time(backend: Backend) -> None:
    options: dict[str, Any] = {"result_ttl": 60, "meta": {"a": 1}, "retry": Retry(2, backoff=1)}
    entry = cron.register(work.multiply, "low", (6, 7), interval="1d", job_timeout=9, **options)

    job = entry.run()

    assert entry.name == "tests-client-work-multiply"
    assert job.id.startswith("cron-tests-client-work-multiply-")
    assert (job.origin, job.timeout, job.result_ttl, job.meta) == ("low", 9, 60, {"a": 1})
    assert job.retries_left == 2
    perform(backend, "low")
    assert job.return_value() == 42
    seen = cron.fetch(entry.name)
    assert (seen.next_run, seen.runs) == (entry.next_run, 0)


def test_who_registers_a_name_again_changes_its_entry(backend: Backend) -> None:
    scheduler = CronScheduler()
    scheduler.register(work.multiply, "low", args=(1,), interval=3600, name="a")
    scheduler.register(work.echo, "high", args=(2,), cron="@daily", timezone="Asia/Tokyo", name="a")

    (entry,) = scheduler.get_jobs()

    assert (entry.queue_name, entry.schedule) == ("high", "@daily Asia/Tokyo")
    assert entry.next_run is not None
    assert entry.next_run.hour == 15  # midnight in Tokyo
    assert cron.remove("a")
    assert not cron.remove("a")
    assert scheduler.get_jobs() == []


def test_a_second_entry_of_a_function_is_refused_without_a_name_of_its_own(
    backend: Backend,
) -> None:
    daily: dict[str, Any] = {"args": ("daily",), "cron": "@daily"}
    weekly: dict[str, Any] = {"args": ("weekly",), "cron": "@weekly"}
    first = cron.register(work.echo, **daily)
    cron.register(work.echo, **daily)  # as a module does that is imported twice

    with pytest.raises(ConfigurationError, match="would replace it: write name= for") as caught:
        CronScheduler().register(work.echo, "default", **weekly)

    assert "\n" not in str(caught.value)
    assert [one.schedule for one in cron.entries()] == ["@daily"]
    cron.register(work.echo, **weekly, name="weekly")
    cron.register(work.multiply, **weekly)
    assert len(cron.entries()) == 3
    # What replaces nothing is free to come, and by its name an entry can be changed.
    first.remove()
    cron.register(work.echo, **weekly)
    cron.register(work.echo, **daily, name=first.name)
    assert cron.fetch(first.name).schedule == "@daily"


def test_a_scheduler_takes_its_arguments_in_rqs_places(backend: Backend) -> None:
    scheduler = cron.CronScheduler()

    entry = scheduler.register(work.echo, "low", (5,), {"b": 1}, 30, name="fives")

    assert (entry.queue_name, entry.interval, entry.cron) == ("low", 30, None)
    job = entry.run()
    assert (job.args, job.kwargs) == ((5,), {"b": 1})


def test_pause_and_resume(backend: Backend) -> None:
    entry = cron.register(work.echo, cron="@hourly")
    entry.pause()
    paused = cron.fetch(entry.name)
    assert (paused.state, paused.next_run) == ("paused", None)

    paused.resume()

    again = cron.fetch(entry.name)
    assert again.next_run is not None
    assert again.next_run - datetime.now(UTC) < timedelta(hours=1)
    cron.register(work.echo, cron="@daily", name=entry.name)
    with pytest.raises(InvalidJobOperation, match="changed meanwhile"):
        again.pause()


def test_a_run_by_hand_waits_for_no_one_with_its_unique_key(backend: Backend) -> None:
    entry = cron.register(work.echo, interval=3600, unique="report")
    entry.run()

    with pytest.raises(InvalidJobOperation, match="a live job has its unique key"):
        entry.run()


def test_a_run_by_hand_may_be_over_and_gone_before_its_enqueue_returns(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = Crons.run

    def run(crons: Crons, name: str, job_id: str) -> JobRecord | None:
        done = enqueue(crons, name, job_id)
        perform(backend, "low")
        return done

    monkeypatch.setattr(Crons, "run", run)
    job = cron.register(work.multiply, "low", (6, 7), interval="1d", result_ttl=0).run()

    assert job.return_value() == 42
    assert (job.origin, job.result_ttl, job.args) == ("low", 0, (6, 7))
    assert not Job.exists(job.id)


def test_a_run_is_read_with_the_entrys_signature_and_only_there(backend: Backend) -> None:
    use_redis(backend.url, signing_keys=["a-signing-key-of-the-tests"])
    entry = cron.register(work.multiply, args=(6, 7), interval=3600, meta={"a": 1}, name="good")
    other = cron.register(work.echo, interval=3600, name="other")
    job, redis, keys = entry.run(), backend.store.redis, backend.store.keys

    assert (job.args, job.meta) == ((6, 7), {"a": 1})
    job.meta["b"] = 2
    job.save_meta()
    assert job.get_meta() == {"a": 1, "b": 2}
    for moved in ("cron-goods-1", "good", other.run().id):
        redis.delete(keys.job(moved))
        redis.copy(keys.job(job.id), keys.job(moved))
        with pytest.raises(SignatureError, match="wrong signature"):
            _ = Job.fetch(moved).args
        with pytest.raises(SignatureError, match="wrong signature"):
            _ = Job.fetch(moved).meta


FILE = """
[one]
func = "tests.client.work.echo"
args = [1]
interval = "15m"

[two]
func = "tests.client.work.multiply"
kwargs = {x = 1}
cron = "0 3 * * *"
timezone = "Europe/Berlin"
queue = "low"
timeout = "10m"
missed = "all"
window = "7d"
unique = "two"
retry = {max = 3, interval = [1, 5], never = ["ValueError"]}
serializer = "json"
"""


def test_a_file_is_loaded_as_a_whole_and_again(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "cron.toml"
    path.write_text(FILE)

    assert cron.load(path) == (["one", "two"], [])
    assert cron.load(path) == ([], [])

    two = cron.fetch("two")
    assert (two.queue_name, two.schedule, two.source) == (
        "low",
        "0 3 * * * Europe/Berlin",
        str(path),
    )
    job = two.run()
    assert (job.kwargs, job.timeout, job.retries_left) == ({"x": 1}, 600, 3)
    path.write_text(FILE.replace("[two]", "[three]").replace('"15m"', '"20m"'))
    assert cron.load(path) == (["one", "three"], ["two"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", r"\[x\]: write a table"),
        ("[a b]", "cron.toml: "),
        ("[a]\ncron = '@daily'", r"\[a\]: write func ="),
        ("[a]\nfunc = 'm.f'", r"\[a\]: a cron entry needs cron= or interval="),
        ("[a]\nfunc = 'm.f'\ncron = '@dayly'", "write five fields"),
        ("[a]\nfunc = 'm.f'\ncron = '0 0 * * *'\ntimzone = 'UTC'", r"did you mean timezone\?"),
        ("[a]\nfunc = 'm.f'\ninterval = 0.5", "interval 0.5: write whole seconds"),
        ("[a]\nfunc = 'm.f'\ninterval = 5\nmissed = 'x'", "missed 'x': write skip, once, all"),
        ("[a]\nfunc = 'm.f'\ninterval = 5\nargs = 'x'", "args = 'x', kwargs = {}: write a list"),
        ("[a]\nfunc = 'm.f'\ninterval = 5\nretry = {most = 1}", "retry: "),
        ("[a]\nfunc = 'm.f'\ninterval = 5\nretry = 3", r"retry = 3: write retry = \{max = 3\}"),
        ("[a]\nfunc = 'f'\ninterval = 5", "'f' is no dotted name"),
        ("[a]\nfunc = 'm.f'\ninterval = 5\nkwargs = 5", "kwargs = 5: write a list and a table"),
        ("[a]\nfunc = 'm.f'\ncron = 5", "cron 5: write"),
        ("[a]\nfunc = 'm.f'\ncron = '@daily'\ntimezone = 5", "timezone 5 "),
        ("['a.b']\nfunc = 'm.f'\ninterval = 5", "entry name 'a.b' may have"),
    ],
)
def test_a_files_mistakes_are_told_by_entry_and_nothing_is_written(
    backend: Backend, tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "cron.toml"
    path.write_text(f"[good]\nfunc = 'm.f'\ninterval = 60\n{text}" if text[0] == "[" else text)

    with pytest.raises(ConfigurationError, match=why) as caught:
        cron.load(path)

    assert "\n" not in str(caught.value)
    assert backend.store.redis.dbsize() == 0


def test_a_file_that_is_missing_or_no_toml_is_one_line_that_says_what_to_write(
    backend: Backend, tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text("def f(): pass")
    for name, what in (("absent.toml", "No such file or directory"), ("tasks.py", "Expected")):
        with pytest.raises(ConfigurationError, match=what) as caught:
            cron.load(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert str(caught.value).endswith(": write a TOML file, with a table for each entry")
        assert "Errno" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({}, ConfigurationError, "needs cron= or interval="),
        ({"cron": "@daily", "interval": 5}, ConfigurationError, "and not both"),
        ({"interval": 60, "at_front": True}, ConfigurationError, "has no at_front="),
        ({"interval": 60, "name": "a b"}, ConfigurationError, "entry name 'a b'"),
        ({"interval": 60, "colour": 1}, ConfigurationError, "has no colour="),
        ({"interval": 60, "args": ("x" * 70_000,)}, InvalidCallError, "the limit is 65,536"),
        ({"interval": 60, "queue_name": "a b"}, ConfigurationError, "queue name 'a b'"),
    ],
)
def test_what_can_be_no_entry_is_refused(
    backend: Backend, options: Any, error: type[RqdError], why: str
) -> None:
    with pytest.raises(error, match=why):
        cron.register(work.echo, **options)

    assert backend.store.redis.dbsize() == 0
    with pytest.raises(NoSuchJobError, match="rqd cron list"):
        cron.fetch("nobody")


def test_who_mistypes_an_entrys_name_is_told_what_was_meant(backend: Backend) -> None:
    cron.register(work.echo, interval=60, name="nightly-report")

    with pytest.raises(NoSuchJobError, match="did you mean nightly-report"):
        cron.fetch("nightly_report")


def test_a_cron_job_of_ones_own_says_what_to_write(backend: Backend) -> None:
    with pytest.raises(InvalidCallError, match=r"write rqd\.cron\.register\(func, "):
        cron.CronJob(func=work.multiply, queue_name="low", interval=60)
