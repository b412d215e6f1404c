"""What the commands print when all is well."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rqd.client.connection import backend_for
from rqd.job import Job
from rqd.model.terms import read_terms
from rqd.queue import Queue
from rqd.store.messages import Beat
from tests.cli.running import ROOT, rqd
from tests.client.performing import claim, perform, settle
from tests.servers import RedisServer
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("option", "due"),
    [
        (("--schedule-at", "2040-06-01T12:30+02:00"), "2040-06-01T10:30:00+00:00"),
        (("--schedule-at", "2040-06-01"), datetime(2040, 6, 1).astimezone(UTC).isoformat()),
    ],
)
def test_enqueue_schedules(redis_url: str, option: tuple[str, str], due: str) -> None:
    ran = rqd("enqueue", *option, "tests.client.work.echo", ":1", url=redis_url)

    queue = Queue(connection=redis_url)
    assert queue.scheduled_job_registry.get_scheduled_time(ran.out.strip()).isoformat() == due
    told = json.loads(rqd("job", ran.out.strip(), "--json", url=redis_url).out)
    assert (told["status"], told["due"]) == ("scheduled", due)


def test_info_of_nothing(redis_url: str) -> None:
    told = json.loads(rqd("info", "--json", url=redis_url).out)
    assert told == {"queues": [], "masters": [], "workers": []}

    shown = rqd("info", url=redis_url)
    assert (shown.status, shown.err) == (0, "")
    assert [line for line in shown.out.splitlines() if not line.startswith(" ")] == [
        "Queues",
        "",
        "Masters",
        "",
        "Workers",
    ]


def test_info_says_whose_jobs_wait_for_a_master_that_there_is_not(redis_url: str) -> None:
    backend = backend_for(redis_url)
    for queue in ("low", "lwo"):
        rqd("enqueue", "-q", queue, "tests.client.work.multiply", ":2", url=redis_url)
    backend.store.hello("m", "boot", 15, {"state": "idle", "queues": "high,low"})

    shown = rqd("info", url=redis_url).out

    assert "  lwo: no master serves it (rqd start --queues lwo)\n" in shown
    assert "low: no master" not in shown


def test_a_queued_job_says_who_serves_its_queue(redis_url: str) -> None:
    enqueued = rqd("enqueue", "-q", "low", "tests.client.work.multiply", ":2", url=redis_url)
    job_id = enqueued.out.strip()
    assert "served_by:    no master (rqd start --queues low)\n" in (
        rqd("job", job_id, url=redis_url).out
    )

    for name, queues in (("a", "high,low"), ("b", "lower")):
        backend_for(redis_url).store.hello(name, "boot", 60, {"queues": queues})

    assert json.loads(rqd("job", job_id, "--json", url=redis_url).out)["served_by"] == ["a"]
    assert "served_by:    a\n" in rqd("job", job_id, url=redis_url).out


def test_info_shows_queues_masters_and_workers(redis_url: str) -> None:
    backend = backend_for(redis_url)
    rqd("enqueue", "-q", "low", "tests.client.work.multiply", ":2", url=redis_url)
    row: dict[str, Any] = {"host": "h", "pid": 7, "workers": 1, "state": "idle", "queues": "low"}
    backend.store.hello("m", "boot", 15, row)
    worker: dict[str, Any] = {
        "state": "idle",
        "pid": 8,
        "rss_bytes": 5 * 2**20 + 90_000,
        "cpu_percent": "1.5",
    }
    backend.store.beat(Beat("m", "boot", 15 * 2**20 + 90_000, 15, "", (), row, {1: worker}))

    told = json.loads(rqd("info", "--json", url=redis_url).out)

    assert list(told) == ["queues", "masters", "workers"]
    assert 0 < told["queues"][0].pop("latency_s") < 60
    totals = (
        "finished",
        "failed",
        "stopped",
        "canceled",
        "retried",
        "repeated",
        "put_back",
        "lost",
    )
    assert told["queues"] == [
        {
            "name": "low",
            "ready": 1,
            **dict.fromkeys(("limited", "started", "scheduled", "deferred"), 0),
            **dict.fromkeys(("finished", "failed", "canceled"), 0),
            "totals": dict.fromkeys(totals, 0) | {"enqueued": 1},
            "paused": False,
            "paused_until": None,
        }
    ]
    (master,) = told["masters"]
    assert (master["name"], master["pid"], master["queues"]) == ("m", 7, ["low"])
    assert "boot" not in master
    (shown,) = told["workers"]
    assert (shown["master"], shown["number"], shown["pid"]) == ("m", 1, 8)
    assert (shown["rss_bytes"], shown["cpu_percent"]) == (5 * 2**20 + 90_000, 1.5)

    table = rqd("info", url=redis_url).out
    assert "\x1b" not in table
    for word in ("low", "m:1", "rss MiB", "5.1", "idle"):
        assert word in table
    assert "rss:          5.1 MiB\n" in rqd("workers", "m:1", url=redis_url).out
    two = rqd("workers", "m:1", "m:2", url=redis_url)
    assert (two.status, two.err) == (64, "rqd: workers m:1 m:2: write a single NAME, or none\n")


def test_enqueue_prints_the_id_and_takes_arguments_as_rq_writes_them(redis_url: str) -> None:
    ran = rqd(
        *(
            "enqueue",
            "-q",
            "low",
            "--timeout",
            "10m",
            "--result-ttl",
            "1h",
            "--description",
            "mine",
            "--priority",
            "-7",
        ),
        *("--retry-max", "2", "--retry-interval", "1", "--retry-interval", "5"),
        *("--retry-jitter", "0.2", "--retry-on", "timeout=0", "--retry-never", "ValueError"),
        *("tests.client.work.echo", "text", ":20", "%(1, 2)", "a=text", "b:=[1]", "c%={1}"),
        url=redis_url,
    )

    assert (ran.status, ran.err) == (0, "")
    job = Job.fetch(ran.out.strip(), redis_url)
    assert (job.args, job.kwargs) == (("text", 20, (1, 2)), {"a": "text", "b": [1], "c": {1}})
    assert (job.origin, job.timeout, job.result_ttl) == ("low", 600, 3600)
    assert (job.description, job.retries_left, job.retry_intervals) == ("mine", 2, [1, 5])
    assert job._record.priority == -7
    rules = {"jitter": 0.2, "on": {"timeout": 0}, "never": ["builtins.ValueError"]}
    assert read_terms(job._record.terms) == {"retry": rules}


def test_enqueue_quietly_at_the_front_with_an_id_and_json(redis_url: str) -> None:
    rqd("enqueue", "tasks.f", url=redis_url)
    ran = rqd(
        *("enqueue", "--quiet", "--at-front", "--job-id", "a", "-S", "json", "tasks.f", "é"),
        url=redis_url,
    )

    assert (ran.status, ran.out, ran.err) == (0, "", "")
    job = Job.fetch("a", redis_url)
    assert (job.get_position(), job.args) == (0, ("é",))


def test_an_argument_in_another_encoding_arrives_as_it_was_typed(redis_url: str) -> None:
    ran = rqd("enqueue", "tasks.f", b"caf\xe9", url=redis_url)

    assert Job.fetch(ran.out.strip(), redis_url).args == ("caf\udce9",)


@pytest.mark.parametrize(
    ("call", "status", "out", "err"),
    [
        (["multiply", ":6", "y:=7"], 0, "42\n", ""),
        (["fail", "no luck"], 1, "", "ValueError: no luck\n"),
    ],
)
def test_enqueue_waits_and_prints_the_result(
    redis_url: str, call: list[str], status: int, out: str, err: str
) -> None:
    function, *arguments = call
    waiting = start(
        "enqueue", "--quiet", "--wait", f"tests.client.work.{function}", *arguments, url=redis_url
    )
    backend = backend_for(redis_url)

    eventually(lambda: perform(backend), 15, "the job to run")

    told_out, told_err = waiting.communicate(timeout=10)
    assert (waiting.returncode, told_out) == (status, out)
    assert told_err.endswith(err)


def test_a_wait_for_a_job_that_is_canceled_ends(redis_url: str, server: RedisServer) -> None:
    Queue(connection=redis_url).pause()
    waiting = start("enqueue", "--wait", "--job-id", "a", "tests.client.work.fail", url=redis_url)
    eventually(lambda: Job.exists("a", redis_url), 15)
    Job.fetch("a", redis_url).cancel()

    out, err = waiting.communicate(timeout=10)

    assert (waiting.returncode, out) == (1, "")
    held = "rqd: queue default is paused (`rqd resume default` ends that); waiting for its end\n"
    nobody = "rqd: no daemon serves queue default now; waiting for a daemon\n"
    assert (
        err
        == f"a\n{held}{nobody}the job is gone: canceled, deleted, or its time to live was over\n"
    )


def test_a_wait_for_daemons_that_are_all_paused_says_so(redis_url: str) -> None:
    store = backend_for(redis_url).store
    row: dict[str, Any] = {"host": "h", "pid": 7, "workers": 1, "queues": "default,low"}
    for name, state in (("m", "paused"), ("n", "paused"), ("o", "idle")):
        queues = "high" if name == "o" else row["queues"]
        store.hello(name, "boot", 15, row | {"state": state, "queues": queues})
    waiting = start("enqueue", "--wait", "--job-id", "a", "tests.client.work.fail", url=redis_url)
    eventually(lambda: Job.exists("a", redis_url), 15)
    Job.fetch("a", redis_url).cancel()

    _, err = waiting.communicate(timeout=10)

    paused = "rqd: all daemons of queue default are paused, `rqd resume --master NAME` ends that\n"
    assert err == f"a\n{paused}the job is gone: canceled, deleted, or its time to live was over\n"


def test_info_shows_of_a_workers_last_error_what_tells_it_from_others(redis_url: str) -> None:
    store = backend_for(redis_url).store
    row: dict[str, Any] = {"host": "h", "pid": 7, "workers": 2, "state": "idle"}
    store.hello("m", "boot", 15, row)
    error = "raised django.core.exceptions.ObjectDoesNotExist: no order 4711 of June"
    errors = (error, "crashed: exit status 3")
    workers: dict[int, dict[str, Any]] = {
        number: {"state": "idle", "last_error": told} for number, told in enumerate(errors, 1)
    }
    store.beat(Beat("m", "boot", 15_000_000, 15, "", (), row, workers))

    out = rqd("info", "-W", url=redis_url).out

    assert "  raised ObjectDoesNotExist: no order 47.." in out
    assert "  crashed: exit status 3" in out
    told = json.loads(rqd("info", "-W", "--json", url=redis_url).out)
    assert told["workers"][0]["last_error"] == error


def test_info_that_is_shown_again_and_again_outlives_an_outage(
    server: RedisServer, redis_url: str
) -> None:
    shown = start("info", "-i", "0.1", "--json", url=redis_url)
    with shown:
        assert shown.stdout
        assert shown.stderr
        assert json.loads(shown.stdout.readline())["queues"] == []
        server.stop()
        assert "Redis is away, trying again: no Redis at" in shown.stderr.readline()
        server.start()
        Queue("back", connection=redis_url).enqueue("tasks.f")
        assert any("back" in line for line in shown.stdout)
        shown.send_signal(signal.SIGINT)
        assert shown.wait(10) == 130


def start(*arguments: str, url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rqd", *arguments, "--url", url],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_job_shows_all_that_is_known(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job_id = rqd("enqueue", "tests.client.work.multiply", ":6", url=redis_url).out.strip()

    waiting = json.loads(rqd("job", job_id, "--json", url=redis_url).out)
    assert (waiting["status"], waiting["position"], waiting["attempts"]) == ("queued", 0, [])
    (held,) = claim(backend)
    settle(backend, held, "finish", b"K*.", preview="42", wall_s="0.5", cpu_s="0.25", pid=7)

    told = json.loads(rqd("job", "--json", job_id, url=redis_url).out)
    assert (told["id"], told["status"], told["queue"]) == (job_id, "finished", "default")
    assert told["function"] == "tests.client.work.multiply"
    (attempt,) = told["attempts"]
    assert (attempt["result"], attempt["wall_s"], attempt["pid"]) == ("42", 0.5, 7)
    assert attempt["ended"] == told["ended"]

    text = rqd("job", job_id, url=redis_url).out
    assert "status:       finished" in text
    assert "ran:          500.0 ms" in text


def test_job_shows_that_it_was_put_back_and_how_often_it_was_lost(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job_id = rqd("enqueue", "tests.client.work.multiply", ":6", url=redis_url).out.strip()

    def standing() -> tuple[str, bool, int]:
        told = json.loads(rqd("job", job_id, "--json", url=redis_url).out)
        return told["status"], told["put_back"], told["losses"]

    assert standing() == ("queued", False, 0)
    (held,) = claim(backend)
    assert standing() == ("started", False, 0)
    settle(backend, held, "put_back")
    assert standing() == ("queued", True, 0)
    assert "put_back:     uncharged, from m:1\n" in rqd("job", job_id, url=redis_url).out
    (held,) = claim(backend)
    settle(backend, held, "lose", cause="lost with m:1")
    assert standing() == ("queued", True, 1)
    assert (
        "losses:       1 in a row with the process that ran it"
        in rqd("job", job_id, url=redis_url).out
    )
    (held,) = claim(backend)
    assert standing() == ("started", False, 1)
    settle(backend, held, "retry")
    assert standing() == ("queued", False, 0)
    assert "losses" not in rqd("job", job_id, url=redis_url).out


def test_a_scheduled_job_that_was_put_back_says_so(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job = Queue(connection=redis_url).enqueue_in(timedelta(), "tests.client.work.multiply", 6)
    claims = eventually(lambda: claim(backend))  # due and claimed in one turn: at the same instant
    settle(backend, claims[0], "put_back")

    job.refresh()

    assert job.started_at == job.enqueued_at
    assert job.was_put_back


def test_job_shows_a_traceback_and_the_output(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job_id = rqd("enqueue", "tests.client.work.fail", url=redis_url).out.strip()
    (held,) = claim(backend)
    settle(
        backend, held, "fail", cause="crashed: SIGSEGV", signal=11, exit_status=0, core_dumped=1,
        exc_string="Stack of yours\n  line", output="last words", peak_memory_bytes=1_048_576,
        wall_s=61.25,
    )  # fmt: skip

    told = json.loads(rqd("job", "--json", job_id, url=redis_url).out)
    (attempt,) = told["attempts"]
    assert (attempt["signal"], attempt["core_dumped"], told["cause"]) == (
        11,
        True,
        "crashed: SIGSEGV",
    )
    assert (attempt["output"], attempt["traceback"]) == (
        "last words",
        "Stack of yours\n  line",
    )
    text = rqd("job", job_id, url=redis_url).out
    assert "ran:          61.2 s\n" in text
    assert "peak memory:  1.0 MiB of its own" in text
    assert "died by:      SIGSEGV, core dumped; not sent by rqd\n" in text


def test_job_shows_the_end_of_a_long_output_and_where_the_rest_is(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job_id = rqd("enqueue", "tests.client.work.fail", url=redis_url).out.strip()
    (held,) = claim(backend)
    settle(backend, held, "fail", output="".join(f"line {number}\n" for number in range(50)))

    shown = rqd("job", job_id, url=redis_url).out
    assert "output: the last 20 of 50 lines, `rqd logs` shows all\n    line 30\n" in shown
    assert rqd("logs", job_id, url=redis_url).out.count("line") == 50
    extended = rqd("job", job_id, "extend", "--by", "10m", url=redis_url)
    assert "only a running job can be extended" in extended.err


def test_nothing_of_a_job_is_unpickled_to_show_it(redis_url: str) -> None:
    backend = backend_for(redis_url)
    job_id = rqd("enqueue", "tests.client.work.fail", url=redis_url).out.strip()
    backend.store.redis.hset(backend.store.keys.job(job_id), "payload", b"no pickle")
    (held,) = claim(backend)
    settle(backend, held, "finish", b"no pickle either", preview="<shown>")

    ran = rqd("job", job_id, url=redis_url)

    assert ran.status == 0
    assert "<shown>" in ran.out


def test_the_namespace_is_an_option_and_an_environment_variable(redis_url: str) -> None:
    ran = rqd("enqueue", "--namespace", "billing", "tasks.f", url=redis_url)
    assert ran.status == 0

    told = rqd("info", "--json", url=redis_url, env={"RQD_NAMESPACE": "billing"})

    assert [queue["name"] for queue in json.loads(told.out)["queues"]] == ["default"]
    assert json.loads(rqd("info", "--json", url=redis_url).out)["queues"] == []


def test_stop_tells_the_masters_and_waits_until_they_are_gone(redis_url: str) -> None:
    backend = backend_for(redis_url)
    for name in ("m", "n", "o"):
        backend.store.hello(name, "boot", 15, {"busy": 1, "host": f"host-{name}"})
    both = ("--host", "host-m", "--host", "host-n")
    stopping = start("stop", "--now", "--timeout", "2", *both, url=redis_url)
    key = f"{backend.store.keys.prefix}control:m"
    eventually(lambda: backend.store.redis.lrange(key, 0, -1), 15)
    (command,) = map(json.loads, backend.store.redis.lrange(key, 0, -1))
    assert (command["do"], command["now"], command["answer"]) == ("stop", True, True)
    backend.store.answer(command["id"], "m", json.dumps({"state": "stopping", "busy": 1}), 60)
    backend.store.bye("m", "boot", 1)
    backend.store.bye("n", "boot", 1)

    out, err = stopping.communicate(timeout=10)

    assert (stopping.returncode, err) == (1, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "Masters",
        "master host answer",
        "m host-m stopping, 1 running",
        "n host-n no answer",
        "m: stopped",
        "n: gone without an answer",
    ]


def test_a_job_can_wait_for_others_and_job_shows_whom(redis_url: str) -> None:
    call = ("tests.client.work.multiply", ":2")
    rqd("enqueue", "--job-id", "a", *call, url=redis_url)
    rqd("enqueue", "--job-id", "b", *call, "--depends-on", "a", url=redis_url)
    for number in range(6):
        given = ("--depends-on", "a", "--depends-on", "b", "--job-id", f"c{number}")
        rqd("enqueue", *call, *given, url=redis_url)

    assert "depends_on:   a, b\n" in rqd("job", "c0", url=redis_url).out
    assert "dependents:   b, c0, c1, c2, c3, and 2 more\n" in rqd("job", "a", url=redis_url).out
    told = json.loads(rqd("job", "b", "--json", url=redis_url).out)
    assert (told["status"], told["depends_on"], told["dependents"]) == (
        "deferred", ["a"], [f"c{number}" for number in range(6)],
    )  # fmt: skip
    refused = rqd("enqueue", *call, "--depends-on", "none", url=redis_url)
    assert (refused.status, "depends on 'none'" in refused.err) == (66, True)


def test_cron_entries_are_added_listed_run_paused_and_removed(redis_url: str) -> None:
    added = rqd(
        *("cron", "add", "report", "tests.client.work.multiply", ":6", "y:=7"),
        *("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "-q", "low"),
        url=redis_url,
    )
    assert (added.status, added.err) == (0, "")
    assert added.out.startswith("report: due 2")

    ran = rqd("cron", "run", "report", url=redis_url)
    perform(backend_for(redis_url), "low")
    paused = rqd("cron", "pause", "report", url=redis_url).out
    (told,) = json.loads(rqd("cron", "--json", url=redis_url).out)
    shown = rqd("cron", url=redis_url).out.splitlines()
    assert paused == "report: paused, until rqd cron resume\n"
    assert rqd("cron", "resume", "report", url=redis_url).out.startswith("report: resumed, due 2")
    (resumed,) = json.loads(rqd("cron", "list", "--json", url=redis_url).out)

    assert Job.fetch(ran.out.strip(), redis_url).return_value() == 42
    assert (told["schedule"], told["state"]) == ("30 2 * * * Europe/Berlin", "paused")
    assert (told["next"], told["runs"], resumed["state"]) == (None, 0, "active")
    assert shown[0] == "Cron entries"
    assert shown[2].split()[0] == "report"
    # Of one entry: the same fields.
    for words in (["report"], ["list", "report"], ["report", "list"]):
        assert json.loads(rqd("cron", *words, "--json", url=redis_url).out) == resumed
    one = rqd("cron", "report", url=redis_url).out
    fields = dict(line.split(":", 1) for line in one.splitlines())
    assert fields["schedule"].strip() == "30 2 * * * Europe/Berlin"
    assert fields["state"].strip() == "active"
    assert "last job" not in fields  # a run by hand is none of the entry's own
    missing = rqd("cron", "repotr", url=redis_url)
    assert (missing.status, missing.out) == (66, "")
    assert "no cron entry 'repotr': did you mean report?" in missing.err
    assert rqd("cron", "remove", "report", url=redis_url).out == "report: removed\n"
    assert rqd("cron", "list", url=redis_url).out == "Cron entries\n  none\n"
