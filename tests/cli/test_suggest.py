"""What a shell completes, and what the command line takes for a slip."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rqd import Queue
from rqd.cli.main import cli
from rqd.cli.variables import slips
from rqd.client.connection import Backend, backend_for
from rqd.client.cron import register
from rqd.exceptions import NoSuchJobError
from rqd.job import Job
from rqd.store.messages import Beat
from tests.cli.running import Ran, rqd
from tests.client import work
from tests.client.performing import perform

EX_USAGE, EX_NOINPUT, EX_UNAVAILABLE = 64, 66, 69


@pytest.fixture
def there(redis_url: str) -> Backend:
    """Two queues with a job each, and a master with two workers that serves one of them."""
    backend = backend_for(redis_url)
    Queue("high", backend).enqueue(work.multiply, 1, job_id="waits-1")
    Queue("higher", backend).enqueue(work.fail, "no luck", job_id="failed-1")
    perform(backend, "higher")
    row: dict[str, Any] = {"host": "h", "pid": 7, "workers": 2, "state": "idle", "queues": "high"}
    backend.store.hello("m", "boot", 600, row)
    rows: dict[int, dict[str, Any]] = {n: {"state": "idle", "pid": n} for n in (1, 2)}
    backend.store.beat(Beat("m", "boot", 15_000_000, 600, "", (), row, rows))
    return backend


def complete(url: str, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    line = " ".join(["rqd", *words])
    ran = rqd(
        url=url,
        env={
            "_RQD_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        },
    )
    assert ran.err == ""
    return [offered.partition(",")[2] for offered in ran.out.split()]


def test_queues_and_jobs_are_completed_from_redis(there: Backend) -> None:
    assert complete(there.url, "enqueue", "-q", "hi") == ["high", "higher"]
    assert complete(there.url, "info", "higher") == ["higher"]
    assert complete(there.url, "start", "--queues", "higher,h") == ["higher,high", "higher,higher"]
    assert complete(there.url, "job", "fa") == ["failed-1"]
    assert complete(there.url, "job", "--namespace", "other", "fa") == []
    assert "--retry-max" in complete(there.url, "enqueue", "--ret")
    assert {"job", "info", "pause"} <= set(complete(there.url, ""))
    assert complete(there.url, "pause", "high") == ["high", "higher"]
    assert complete(there.url, "resume", "--master", "") == ["m"]


def test_words_of_filters_are_completed_also_where_bash_breaks_them_at_the_colon(
    there: Backend,
) -> None:
    assert complete(there.url, "jobs", "state:f") == ["state:failed", "state:finished"]
    assert complete(there.url, "failures", "queue:high") == ["queue:high", "queue:higher"]
    assert complete(there.url, "retry", "cause:o") == ["cause:out_of_memory", "cause:other"]
    assert complete(there.url, "retry", "fa") == ["failed-1"]
    assert complete(there.url, "jobs", "state", ":", "f") == ["failed", "finished"]
    assert complete(there.url, "jobs", "queue", ":") == ["high", "higher"]
    assert complete(there.url, "jobs", "since:") == []


def test_verbs_are_completed_before_and_behind_names_and_former_spellings_never(
    there: Backend,
) -> None:
    assert complete(there.url, "job", "fa") == ["failed-1"]
    assert complete(there.url, "job", "st") == ["stop"]
    assert complete(there.url, "job", "stop", "fa") == ["failed-1"]
    assert complete(there.url, "job", "--json", "stop", "fa") == ["failed-1"]
    assert complete(there.url, "job", "failed-1", "st") == ["stop"]
    assert complete(there.url, "job", "stop", "failed-1", "") == []
    assert complete(there.url, "job", "stop", "--gr") == ["--grace"]
    assert complete(there.url, "job", "failed-1", "stop", "--gr") == ["--grace"]
    assert set(complete(there.url, "queue", "")) == {"show", "empty", "high", "higher"}
    assert complete(there.url, "queue", "high", "") == ["show", "empty"]
    assert complete(there.url, "queue", "empty", "high") == ["high", "higher"]
    assert complete(there.url, "cron", "pa") == ["pause"]
    assert complete(there.url, "cron", "nightly", "pa") == ["pause"]
    register(work.multiply, args=(1,), name="nightly", cron="0 3 * * *", connection=there)
    assert complete(there.url, "cron", "n") == ["nightly"]
    assert {"drain", "undrain", "suspend"} & set(complete(there.url, "")) == set()


def test_a_server_that_does_not_answer_completes_nothing_and_costs_no_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        since = time.monotonic()

        assert complete(f"redis://127.0.0.1:{deaf.getsockname()[1]}", "job", "a") == []

    assert time.monotonic() - since < 10.0  # the client's patience would be three times 5 s


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    ran = rqd("completion", shell)

    assert (ran.status, ran.err) == (0, "")
    assert f"_RQD_COMPLETE={shell}_complete" in ran.out
    refused(rqd("completion", "tcsh"), EX_USAGE, "Invalid value for 'SHELL': 'tcsh' is not one")


def test_the_list_of_commands_says_each_in_one_whole_line() -> None:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    commands = shown.partition("Commands:")[2].splitlines()

    assert [line for line in commands if line.endswith("...")] == []


def refused(ran: Ran, status: int, why: str) -> None:
    assert (ran.status, ran.out) == (status, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("rqd: ")
    assert why in line


@pytest.mark.parametrize("typed", ["8b3f0a52-1f0c-4a6e-9a39-0d5c1c2f3e4d", "8b3f0a52", "waits-1"])
def test_a_jobs_id_in_place_of_a_command_is_answered_by_the_command(
    typed: str, there: Backend
) -> None:
    refused(rqd(typed, url=there.url), EX_USAGE, f"{typed!r}: did you mean rqd job {typed}?")


def test_a_word_that_is_no_id_asks_nobody_in_vain(there: Backend) -> None:
    for typed in ("nonsense", "not an id"):
        ran = rqd(typed, url=there.url)
        refused(ran, EX_USAGE, f"there is no command {typed!r}")
        assert "rqd job" not in ran.err


def test_a_command_or_an_option_near_the_typed_one_is_named() -> None:
    refused(rqd("enqeue", "tasks.f"), EX_USAGE, "no command 'enqeue': did you mean enqueue?")
    refused(rqd("gibberish"), EX_USAGE, "there is no command 'gibberish' (--help shows")
    refused(rqd("info", "--jsn"), EX_USAGE, "--json")
    refused(rqd("status"), EX_USAGE, "write rqd info (")
    refused(rqd("upgrade"), EX_USAGE, "write rqd reload for new application code; a new rqd comes")
    refused(rqd("info", "-r"), EX_USAGE, "RQ's --raw is --json here")
    refused(rqd("info", "-R"), EX_USAGE, "is rqd workers --queue NAME here")
    refused(rqd("info", "-i", "0"), EX_USAGE, "--interval 0: write seconds")


def test_options_of_rqs_worker_are_told_in_rqds_words() -> None:
    refused(rqd("start", "-c", "settings"), EX_USAGE, "RQ's -c: write --config FILE, in TOML")
    refused(rqd("start", "--with-scheduler"), EX_USAGE, "RQ's --with-scheduler: leave it out")
    refused(rqd("start", "--dequeue-strategy", "random"), EX_USAGE, "write --precedence")
    refused(rqd("start", "--worker-class", "a.B"), EX_USAGE, "write --middleware")
    refused(rqd("start", "--colour"), EX_USAGE, "No such option '--colour'")


def test_a_queue_a_worker_or_a_job_near_the_typed_one_is_named(there: Backend) -> None:
    url = there.url
    refused(rqd("info", "hihg", url=url), EX_NOINPUT, "no queue 'hihg': did you mean high?")
    refused(rqd("info", "xyz", url=url), EX_NOINPUT, "'xyz': there are high, higher")
    refused(rqd("workers", "m:11", url=url), EX_NOINPUT, "'m:11' is alive: did you mean m:1?")
    refused(rqd("workers", "high", "low", url=url), EX_NOINPUT, "rqd start --queues high,low runs")
    for typed in (("--burst", "high", "low"), ("high", "low", "-b"), ("--with-scheduler", "high")):
        refused(rqd("workers", *typed, url=url), EX_USAGE, "rqd start --queues high")
    refused(rqd("job", "nobody", url=url), EX_NOINPUT, "'nobody': it was deleted, or")


def test_info_shows_the_parts_and_queues_that_are_asked_for(there: Backend) -> None:
    def told(*arguments: str) -> Any:
        return json.loads(rqd("info", "--json", *arguments, url=there.url).out)

    assert list(told("-Q")) == ["queues"]
    assert list(told("--only-workers")) == ["masters", "workers"]
    of_high, of_higher = told("high"), told("higher")
    assert [row["name"] for row in of_high["queues"]] == ["high"]
    assert len(of_high["workers"]) == 2
    assert (len(of_higher["queues"]), of_higher["masters"], of_higher["workers"]) == (1, [], [])
    assert rqd("info", "-W", url=there.url).out.startswith("Masters")


def test_workers_are_shown_by_their_queue_and_one_by_its_name(there: Backend) -> None:
    listed = json.loads(rqd("workers", "--json", "-q", "high", url=there.url).out)
    assert [(row["master"], row["number"], row["state"]) for row in listed] == [
        ("m", 1, "idle"),
        ("m", 2, "idle"),
    ]
    assert json.loads(rqd("workers", "--json", "-q", "higher", url=there.url).out) == []
    assert json.loads(rqd("workers", "m:2", "--json", url=there.url).out)["pid"] == 2
    assert "pid:          2" in rqd("workers", "m:2", url=there.url).out
    assert "m:1" in rqd("workers", url=there.url).out


def test_a_mistyped_variable_is_named_and_costs_no_command_its_success(
    there: Backend, tmp_path: Path
) -> None:
    env = {"RQD_WORKER": "4", "RQD_NAMESPCE": "x", "RQD_PORT_6379_TCP": "tcp://10.0.0.1:6379"}
    warned = (
        "rqd: RQD_NAMESPCE is ignored: did you mean RQD_NAMESPACE?\n"
        "rqd: RQD_WORKER is ignored: did you mean RQD_WORKERS?\n"
    )

    ran = rqd("info", "--json", "-Q", url=there.url, env=env)

    assert (ran.status, ran.err) == (0, warned)
    assert json.loads(ran.out)["queues"]
    options = ("--burst", "--log-file", str(tmp_path / "log"))
    assert rqd("start", *options, url=there.url, env=env).err == warned


def test_variables_of_others_are_no_slips() -> None:
    ours = ["RQD_URL", "RQD_SIGNING_KEY_FILE", "RQD_JOBS_PER_CHILD", "RQD_CONFIG", "RQD_OPTIONS"]
    # What Kubernetes makes of a Service rqd-worker, what has our prefix by chance, and what hasn't.
    others = ["RQD_WORKER_PORT", "RQD_WORKER_SERVICE_HOST", "RQD_PYTHON", "RQD_IMAGE", "WORKER"]

    assert slips([*ours, *others]) == {}
    assert slips(["RQD_SIGNINGKEY", "RQD_USR", "RQD_MAX_MEM"]) == {
        "RQD_MAX_MEM": "RQD_MAX_MEMORY",
        "RQD_SIGNINGKEY": "RQD_SIGNING_KEY",
        "RQD_USR": "RQD_USER",
    }


def test_the_beginning_of_an_id_will_do_in_every_command_that_takes_one(there: Backend) -> None:
    url = there.url
    assert json.loads(rqd("job", "wai", "--json", url=url).out)["id"] == "waits-1"
    assert rqd("logs", "fai", url=url).status == 0
    refused(rqd("stack", "wai", url=url), EX_UNAVAILABLE, "job waits-1 is queued: only a running")
    given = ("--depends-on", "wai", "--job-id", "after", "tests.client.work.multiply")
    assert rqd("enqueue", *given, url=url).status == 0
    assert Job.fetch("after", there).dependency_ids == ["waits-1"]
    assert rqd("retry", "fai", url=url).out == "failed-1: requeued\n"
    assert rqd("job", "fai", "cancel", url=url).out == "failed-1: canceled\n"
    told = json.loads(rqd("retry", "fai", "nobody", "--json", url=url).out)
    assert told == {"jobs": {"failed-1": "queued", "nobody": "refused"}}
    assert rqd("job", "wai", "delete", url=url).out == "waits-1: deleted\n"
    with pytest.raises(NoSuchJobError):
        Job.fetch("fai", there)  # a program says which one it means


def test_a_beginning_of_several_ids_lists_them_and_changes_nothing(there: Backend) -> None:
    queue = Queue("high", there)
    for number in range(12):
        queue.enqueue(work.multiply, 1, job_id=f"twin-{number:02}")
    shown = "12 jobs begin with 'twin': write more of the id: twin-00, twin-01, "

    for words in (["job", "twin"], ["job", "twin", "delete"], ["logs", "twin"], ["retry", "twin"]):
        ran = rqd(*words, url=there.url)
        refused(ran, EX_NOINPUT, shown)
        assert ran.err.endswith("twin-09, and 2 more\n")
    given = ("--depends-on", "twin", "tests.client.work.multiply")
    refused(rqd("enqueue", *given, url=there.url), EX_NOINPUT, shown)

    assert queue.count == 13
    queue.enqueue(work.multiply, 1, job_id="twin")
    assert rqd("job", "twin", "delete", url=there.url).out == "twin: deleted\n"


def test_where_not_all_jobs_are_looked_at_a_beginning_is_good_for_a_look_only(
    there: Backend,
) -> None:
    queue = Queue("high", there)
    queue.enqueue_many([queue.prepare_data(work.multiply, [1]) for _ in range(1000)])
    queue.enqueue(work.multiply, 1, job_id="waits-2")  # past the last that is looked at

    assert rqd("job", "waits", url=there.url).out.startswith("id:           waits-1\n")
    ran = rqd("job", "waits", "delete", url=there.url)
    refused(
        ran,
        EX_NOINPUT,
        "not all jobs were searched for 'waits': write the whole id",
    )
    assert Job.exists("waits-1", there)
