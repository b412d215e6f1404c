"""Whatever is wrong: one line on stderr that says so, and a status of sysexits.h."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import ROOT, Ran, rqd
from tests.servers import RedisServer, default_binary, running_server

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE = 64, 65, 66, 69


@pytest.fixture(scope="module")
def locked_url() -> Iterator[str]:
    """A server that asks for a password."""
    with running_server(default_binary()) as server:
        server.command("CONFIG SET requirepass secret")
        yield server.url


@pytest.fixture(scope="module")
def deaf_url() -> Iterator[str]:
    """A port where nobody answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def refused(ran: Ran, status: int, why: str) -> None:
    told = ran.err.splitlines()
    assert (ran.status, ran.out) == (status, ""), ran
    assert len(told) == 1, ran
    assert told[0].startswith("rqd: "), ran
    assert why in told[0], ran


REFUSED: list[tuple[list[str | bytes], int, str]] = [
    (["nothing"], EX_USAGE, "there is no command 'nothing'"),
    (["info", "--colour"], EX_USAGE, "No such option"),
    (["info", "--url", "http://h"], EX_USAGE, "URL 'http://h' can't be read: write redis://"),
    (["info", "--url", "redis://h:port"], EX_USAGE, "can't be read"),
    (["info", "--url", "redis://redis..internal"], EX_USAGE, "host 'redis..internal': between its"),
    (["start", "--url", "redis+cluster://a," + "b" * 64], EX_USAGE, "are 1 to 63 characters each"),
    (["info", "--url", "embedded:" + "/x" * 100], EX_USAGE, "choose a shorter DIR"),
    (["info", "--namespace", "a b"], EX_USAGE, "namespace 'a b' must be 1 to 128"),
    (["job"], EX_USAGE, "Missing argument 'ID'"),
    (["completion"], EX_USAGE, "Missing argument 'SHELL'. Choose from: bash, zsh, fish"),
    (["job", "a b"], EX_USAGE, "job id 'a b' may have"),
    (["enqueue"], EX_USAGE, "Missing argument"),
    (["enqueue", "nodots"], EX_DATAERR, "'nodots' is no dotted name"),
    (["enqueue", "__main__.f"], EX_DATAERR, "__main__.f is in __main__"),
    (["enqueue", "tasks.f", ":nope"], EX_USAGE, "argument ':nope' is not JSON"),
    (["enqueue", "tasks.f", "@/no/such"], EX_USAGE, "argument @/no/such"),
    (["enqueue", "-q", "a b", "tasks.f"], EX_USAGE, "queue name 'a b'"),
    (["enqueue", "-q", b"caf\xe9", "tasks.f"], EX_USAGE, "queue name"),
    (["enqueue", "--timeout", "soon", "tasks.f"], EX_USAGE, "--timeout 'soon' is no dur"),
    (["enqueue", "--timeout", "0", "tasks.f"], EX_USAGE, "--timeout 0 would"),
    (["enqueue", "--job-id", "a.b", "tasks.f"], EX_USAGE, "job id 'a.b'"),
    (["enqueue", "--retry-max", "-1", "tasks.f"], EX_USAGE, "--retry-max -1: write"),
    (["enqueue", "--retry-max", "99999999999", "tasks.f"], EX_USAGE, "write 1 to 1,000,000,000"),
    (
        ["enqueue", "--retry-max", "1", "--retry-backoff", "0", "tasks.f"],
        EX_USAGE,
        "-backoff 0.0: w",
    ),
    (["enqueue", "--retry-max", "1", "--retry-interval", "nan", "tasks.f"], EX_USAGE, "seconds, 0"),
    (["enqueue", "--retry-max", "1", "--retry-longest", "inf", "tasks.f"], EX_USAGE, "seconds, 0"),
    (["enqueue", "--schedule-in", "99999d", "tasks.f"], EX_USAGE, "--schedule-in 99999d: write"),
    (
        ["enqueue", "--schedule-at", "9999-01-01", "tasks.f"],
        EX_USAGE,
        "9999-01-01: write a time be",
    ),
    (["scale", "+5000"], EX_USAGE, "scale +5000: a master has 1,000 at most"),
    (["enqueue", "--retry-backoff", "2", "tasks.f"], EX_USAGE, "--retry-backoff needs --retry-max"),
    (["enqueue", "--retry-max", "1", "--retry-on", "oom", "tasks.f"], EX_USAGE, "write CAUSE=N"),
    (["enqueue", "--retry-max", "1", "--retry-on", f"oom={'9' * 5000}", "tasks.f"], EX_USAGE, "=N"),
    (["enqueue", "--schedule-in", "-1", "tasks.f"], EX_USAGE, "--schedule-in -1: write"),
    (["enqueue", "--schedule-at", "noon", "tasks.f"], EX_USAGE, "--schedule-at noon: write"),
    (["enqueue", "--priority", "9999", "tasks.f"], EX_USAGE, "--priority 9999: write a whole"),
    (["enqueue", "--limit", "api:10/x", "tasks.f"], EX_USAGE, "--limit api:10/x: '1x' is no dur"),
    (["enqueue", "--limit", "smtp:0", "tasks.f"], EX_USAGE, "--limit smtp:0: write 1 to 1,000,000"),
    (["enqueue", "--limit", "api:0/s", "tasks.f"], EX_USAGE, "--limit api:0/s: write a number"),
    (["enqueue", "--limit", "a\n:1", "tasks.f"], EX_USAGE, "--limit a\\n:1: RateLimit key"),
    (["enqueue", "--max-memory", "1", "tasks.f"], EX_USAGE, "--max-memory 1 is less than 1 MiB"),
    (["enqueue", "--ttl", "0", "tasks.f"], EX_USAGE, "at once: write seconds, or -1"),
    (["enqueue", "--schedule-at", "\x1b\n", "tasks.f"], EX_USAGE, r"-at \x1b\n: write 2030"),
    (["cron", "load", "/no/such"], EX_USAGE, "/no/such: "),
    (["cron", "add", "a.b", "tasks.f", "--interval", "5"], EX_USAGE, "rqd: entry name 'a.b' may"),
    (["cron", "add", "a", "tasks.f"], EX_USAGE, "give a schedule: --cron"),
    (["cron", "add", "a", "tasks.f", "--cron", "61 * * * *"], EX_USAGE, "'61 * * * *': bad minute"),
    (["start", "--cron", "/no/such"], EX_USAGE, "/no/such: "),
    (["enqueue", "--serializer", "yaml", "tasks.f"], EX_USAGE, "serializer 'yaml'"),
    (["stop", "--master", "a b"], EX_USAGE, "master name 'a b'"),
    (["start", "--workers", "0"], EX_USAGE, "--workers 0: write 1 to"),
    (["start", "--workers", "many"], EX_USAGE, "'many' is not a valid integer"),
    (["start", "--queues", "a b"], EX_USAGE, "queue name 'a b'"),
    (["start", "--queues", ","], EX_USAGE, "--queues is empty"),
    (["start", "--queues", "a:0,b:1"], EX_USAGE, "--queues has a wrong weight: write 1 to"),
    (["scale", "20000"], EX_USAGE, "scale 20000: write 1 to 1,000"),
    (["start", "--queues", "a,a"], EX_USAGE, "names a queue twice"),
    (["start", "high", "low"], EX_USAGE, "queues are an option: --queues high,low"),
    (["start", "--serializers", "jsno"], EX_USAGE, "--serializers jsno: did you mean json? write"),
    (["start", "--serializers", "yaml"], EX_USAGE, "--serializers yaml: write pickle, json or"),
    (["start", "--name", "a b"], EX_USAGE, "master name 'a b'"),
    (["start", "--grace", "soon"], EX_USAGE, "--grace 'soon' is no duration"),
    (["start", "--path", "/no/such"], EX_USAGE, "--path /no/such: there is no such folder"),
    (["start", "--max-jobs", "0"], EX_USAGE, "--max-jobs 0: write 1 or more"),
    (["start", "--max-idle", "0"], EX_USAGE, "--max-idle 0: write seconds, above 0"),
    (["start", "--jobs-per-child", "0"], EX_USAGE, "--jobs-per-child 0"),
    (["start", "--require-signed"], EX_USAGE, "--require-signed needs a key: set RQD_SIGNING"),
    (["start", "--allow", ","], EX_USAGE, "--allow is empty"),
    (["start", "--allow", "shop tasks"], EX_USAGE, "--allow shop tasks: write dotted names"),
    (["start", "--serializers", ""], EX_USAGE, "--serializers is empty"),
    (["start", "--serializers", "../x"], EX_USAGE, "--serializers ../x: write pickle, json"),
    (["start", "--payload-limit", "much"], EX_USAGE, "--payload-limit 'much' is no size"),
    (["start", "--payload-limit", "1G"], EX_USAGE, "--payload-limit 1073741824: write 1 to"),
    (["start", "--user", "no-such-user"], EX_USAGE, "there is no user 'no-such-user' here"),
    (["start", "--user", "root:no-such"], EX_USAGE, "there is no group 'no-such' here"),
    (["start", "--user", "0"], EX_USAGE, "--user 0: that is root: name a user with fewer"),
    (["start", "--url", "http://h"], EX_USAGE, "URL 'http://h' can't be read"),
]


def test_a_variable_that_cannot_be_is_named() -> None:
    refused(rqd("start", env={"RQD_WORKERS": "0"}), EX_USAGE, "RQD_WORKERS 0: write 1 to")
    refused(rqd("start", env={"RQD_WORKERS": "x"}), EX_USAGE, "RQD_WORKERS: 'x' is not a valid int")


@pytest.mark.parametrize(("arguments", "status", "why"), REFUSED, ids=[why for *_, why in REFUSED])
def test_what_cannot_be_is_refused_before_redis_is_asked(
    arguments: list[str | bytes], status: int, why: str, deaf_url: str
) -> None:
    refused(rqd(*arguments, url=deaf_url), status, why)


@pytest.mark.parametrize(
    "arguments", [["info"], ["job", "a"], ["enqueue", "tasks.f"], ["stop"], ["start"]]
)
def test_without_a_server(arguments: list[str], deaf_url: str) -> None:
    refused(rqd(*arguments, url=deaf_url), EX_UNAVAILABLE, f"no Redis at {deaf_url}")


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (["stop"], "kill -TERM PID, or systemctl stop"),
        (["stop", "--now"], "kill -QUIT PID"),
        (["reload"], "kill -HUP PID, or systemctl reload"),
        (["pause", "--all-masters"], "kill -USR2 PID"),
        (["resume", "--master", "m"], "kill -CONT PID"),
        (["pause", "--all-masters", "--now"], ""),  # no one signal does the same
        (["scale", "+1"], "kill -TTIN PID"),
        (["scale", "-1"], "kill -TTOU PID"),
        (["scale", "+2"], ""),
        (["scale", "2"], ""),
        (["stop", "--url", "embedded:nowhere"], ""),  # it ends with its daemon
    ],
)
def test_without_a_server_the_signal_is_named_that_does_the_same(
    arguments: list[str], instead: str, deaf_url: str
) -> None:
    ran = rqd(*arguments, url=deaf_url)
    refused(ran, EX_UNAVAILABLE, "no ")
    hint = f" (without Redis, on a daemon's host: {instead})\n" if instead else ""
    assert ran.err.endswith(hint)
    assert ("on a daemon's host" in ran.err) == bool(instead)


@pytest.mark.parametrize("arguments", [["info"], ["enqueue", "tasks.f"], ["start"]])
@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_with_a_wrong_password(arguments: list[str], login: str, locked_url: str) -> None:
    url = locked_url.replace("unix://", f"unix://{login}")

    ran = rqd(*arguments, url=url)

    refused(ran, EX_UNAVAILABLE, "refused the password or user")
    assert "wrong@" not in ran.err


@pytest.mark.parametrize("arguments", [["start"], ["enqueue", "tasks.f"]])
@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("RQD_SIGNING_KEY", "too-short", "RQD_SIGNING_KEY: a signing key has 9 characters"),
        ("RQD_SIGNING_KEY_FILE", "/no/such", "RQD_SIGNING_KEY_FILE /no/such: it can't be read"),
    ],
)
def test_with_keys_that_are_none(
    arguments: list[str], variable: str, value: str, why: str, deaf_url: str
) -> None:
    ran = rqd(*arguments, url=deaf_url, env={variable: value})

    refused(ran, EX_USAGE, why)
    assert "too-short" not in ran.err


def test_without_an_embedded_server(tmp_path: Path) -> None:
    ran = rqd("info", "--url", f"embedded:{tmp_path}")

    refused(ran, EX_UNAVAILABLE, f"rqd start --url embedded:{tmp_path}")


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["job", "nobody"], EX_NOINPUT, "no job 'nobody'"),
        (["cron", "lsit"], EX_USAGE, "there is no command or entry 'lsit': did you mean list?"),
        (["cron", "xyz"], EX_NOINPUT, "no cron entry 'xyz'"),
        (["stop", "--master", "nobody"], EX_NOINPUT, "no master named 'nobody' is alive"),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, why: str, redis_url: str) -> None:
    refused(rqd(*arguments, url=redis_url), status, why)


def test_the_id_of_a_live_job(redis_url: str) -> None:
    assert rqd("enqueue", "--job-id", "a", "tasks.f", url=redis_url).status == 0

    again = rqd("enqueue", "--job-id", "a", "tasks.f", url=redis_url)

    refused(again, EX_UNAVAILABLE, "a job with id 'a' is still alive")


def test_a_namespace_that_another_program_uses(server: RedisServer, redis_url: str) -> None:
    server.command("SET {rqd}:queues x")

    refused(rqd("enqueue", "tasks.f", url=redis_url), EX_USAGE, "another --namespace")


def test_a_reader_that_leaves_early_gets_no_complaint(redis_url: str) -> None:
    command = f"{sys.executable} -m rqd info --url {redis_url}; echo $? >&2"

    ended = subprocess.run(
        ["bash", "-c", f"({command}) | true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert ended.stderr.split() in (["0"], ["1"])


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["info", "config", "pause q", "jobs --json"])
def test_a_command_whose_outputs_are_closed_does_what_it_does(
    command: str, closed: str, redis_url: str
) -> None:
    line = f"{sys.executable} -m rqd {command} --url {redis_url} {closed}"
    ran = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, timeout=20)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@pytest.mark.parametrize("command", ["info", "start", "enqueue"])
def test_a_database_that_the_server_has_not(command: str, redis_url: str) -> None:
    arguments = [command, "tasks.f"] if command == "enqueue" else [command]
    url = f"{redis_url.partition('?')[0]}?db=99"
    refused(rqd(*arguments, url=url), EX_UNAVAILABLE, "has no database of that number: check the")


def test_an_answer_that_finds_no_room_is_not_laid_to_redis(redis_url: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "rqd", "info", "--url", redis_url]
        ran = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=20
        )

    told = "rqd: OSError: [Errno 28] No space left on device\n"
    assert (ran.returncode, ran.stderr) == (69, told)


def test_an_error_that_finds_no_room_to_be_told_keeps_its_status(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "rqd", "info", "--url", f"unix://{tmp_path}/none.sock"]
        ran = subprocess.run(command, cwd=ROOT, stderr=full, timeout=20)

    assert ran.returncode == 69


@pytest.mark.parametrize("arguments", [["--help"], ["start", "-h"], ["--version"], []])
def test_help_is_no_error(arguments: list[str]) -> None:
    ran = rqd(*arguments)

    assert (ran.status, ran.err) == (0, "")
    assert ("Usage: " in ran.out) or ran.out.startswith("rqd, version ")
