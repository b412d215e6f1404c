"""The grammar of the command line: verbs first or last, help in sections, former spellings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from rqd import Queue
from rqd.cli.cron import command as cron
from rqd.cli.grammar import VerbGroup
from rqd.cli.job import command as job
from rqd.cli.main import _COMMANDS, _FORMER, _OF_RQ, _SECTIONS, cli
from rqd.cli.queue import queue
from rqd.client.connection import Backend, backend_for
from rqd.job import Job
from tests.cli.running import rqd
from tests.client import work

EX_USAGE = 64
GROUPS = {"job": job, "queue": queue, "cron": cron}
VERBS = [
    (group, verb)
    for group, command in GROUPS.items()
    for verb in command.list_commands(click.Context(command))
]


@pytest.fixture
def there(redis_url: str) -> Backend:
    """Queues whose names are verbs, with a job each, and jobs whose ids are verbs."""
    backend = backend_for(redis_url)
    for name in ("empty", "show", "low"):
        Queue(name, backend).enqueue(work.multiply, 1, job_id=f"of-{name}")
    Queue("jobs", backend).enqueue(work.multiply, 1, job_id="delete")
    return backend


def arranged(group: VerbGroup, *words: str) -> list[str]:
    return group.verb_first(click.Context(group, help_option_names=["-h", "--help"]), [*words])


def visible(command: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found and not found.hidden:
            yield name, found


def helped(*words: str) -> list[str]:
    shown = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80, prog_name="rqd")
    assert shown.exit_code == 0
    return shown.output.splitlines()


@pytest.mark.parametrize(("group", "verb"), VERBS)
def test_a_verb_may_stand_first_or_last_wherever_options_stand(group: str, verb: str) -> None:
    command = GROUPS[group]
    for words in (
        ["VERB", "x"],
        ["x", "VERB"],
        ["--url", "stop", "VERB", "x"],  # the value of an option is none of the words
        ["x", "-u", "empty", "VERB"],
        ["x", "VERB", "--namespace", "empty"],
        ["--namespace=run", "x", "VERB"],
        ["VERB", "--", "x"],
        ["--", "x", "VERB"],
    ):
        typed = [verb if word == "VERB" else word for word in words]
        assert arranged(command, *typed) == [verb, *(word for word in words if word != "VERB")]


@pytest.mark.parametrize(("group", "verb"), VERBS)
def test_a_name_that_is_a_verb_stands_behind_two_dashes(group: str, verb: str) -> None:
    command = GROUPS[group]

    assert arranged(command, verb, "--", verb) == [verb, "--", verb]
    assert arranged(command, "--", verb, verb) == [verb, "--", verb]
    with pytest.raises(click.UsageError, match=f"write .*{verb} -- {verb}"):
        arranged(command, verb, verb)


def test_what_may_mean_two_things_does_neither_and_says_how_to_write_each(there: Backend) -> None:
    ran = rqd("queue", "empty", "show", url=there.url)
    assert (ran.status, ran.out) == (EX_USAGE, "")
    wrote = "write rqd queue empty -- show, or rqd queue show -- empty"
    assert ran.err.startswith(f"rqd: 'empty' and 'show' are both commands: {wrote} (")
    ran = rqd("job", "delete", url=there.url)
    assert (ran.status, ran.out) == (EX_USAGE, "")
    alone = "rqd job delete: write rqd job delete ID; to show 'delete' write rqd job -- delete"
    assert ran.err.startswith(f"rqd: {alone} (")
    assert {Queue(name, there).count for name in ("empty", "show", "jobs")} == {1}

    rows = json.loads(rqd("queue", "--json", "--", "empty", url=there.url).out)
    assert [(row["name"], row["ready"]) for row in rows] == [("empty", 1)]
    assert rqd("queue", "empty", "--", "show", url=there.url).out == "show: 1 job deleted\n"
    assert rqd("queue", "--", "empty", "empty", url=there.url).out == "empty: 1 job deleted\n"
    assert rqd("job", "--", "delete", "cancel", url=there.url).out == "delete: canceled\n"
    assert rqd("job", "delete", "--", "delete", url=there.url).out == "delete: deleted\n"
    assert Queue("low", there).count == 1


def test_both_orders_do_the_same(there: Backend) -> None:
    assert rqd("job", "cancel", "of-low", url=there.url).out == "of-low: canceled\n"
    assert rqd("job", "of-low", "requeue", url=there.url).out == "of-low: requeued\n"
    assert rqd("job", "--json", "of-show", "delete", url=there.url).status == 0
    assert not Job.exists("of-show", there)
    added = ("nightly", "tests.client.work.multiply", "1", "--interval", "5m")
    assert rqd("cron", *added, "add", url=there.url).status == 0
    assert rqd("cron", "nightly", "pause", url=there.url).out.startswith("nightly: paused")
    assert rqd("cron", "resume", "nightly", url=there.url).out.startswith("nightly: resumed")
    shown = json.loads(rqd("job", "show", "of-low", "--json", url=there.url).out)
    assert shown == json.loads(rqd("job", "of-low", "--json", url=there.url).out)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["job", "a", "sotp"], "there is no command 'sotp': did you mean stop?"),
        (["job", "sotp", "a"], "there is no command 'sotp': did you mean stop?"),
        (["queue", "a", "b"], "'b' is not one of show, empty"),
        (["cron", "a", "pause", "b"], "'pause' stands first: write rqd cron pause -- a b"),
        (["cron", "a", "--", "remove"], "'a' is not one of list, load"),
        (["job", "a", "--", "delete"], "'a' is not one of show, stop"),
        (["cron", "--", "a", "b"], "write rqd cron COMMAND -- ..: list, load, add"),
        (["cron", "xyz", "a"], "'a' is not one of list, load, add, remove, run, pause"),
        (["queue", "a", "empty", "--limit", "3"], "No such option"),
        (["job", "a", "cancel", "--grace", "3"], "--grace is an option of `stop`"),
        (["cron", "--cron", "@daily"], "--cron is an option of `add`"),
    ],
)
def test_a_word_that_is_no_verb_is_one_line(words: list[str], why: str, there: Backend) -> None:
    ran = rqd(*words, url=there.url)

    assert (ran.status, ran.out) == (EX_USAGE, "")
    assert why in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("words", [(), *((group,) for group in GROUPS)], ids=" ".join)
def test_lists_of_commands_say_each_in_one_whole_aligned_line(words: tuple[str, ...]) -> None:
    found: click.Group = GROUPS[words[0]] if words else cli
    listed = {
        match[2]: match
        for line in helped(*words)
        if (match := re.fullmatch(r"(  (\S+) +)(\S.*\S)", line))
        and match[2] in dict(visible(found))
    }

    assert [*listed] == [name for name, _ in visible(found)]
    assert len({len(match[1]) for match in listed.values()}) == 1
    assert [name for name, match in listed.items() if not re.search(r"[^.]\.$", match[3])] == []


def test_every_command_stands_under_one_heading_and_former_ones_under_none() -> None:
    shown = helped()

    assert [line[:-1] for line in shown if line.endswith(":") and line[:1] != " "] == [
        "Options",
        *_SECTIONS,
    ]
    assert sum(map(len, _SECTIONS.values())) == len(_COMMANDS)
    assert not {*_FORMER, *_OF_RQ} & {line.split()[0] for line in shown if line.strip()}


def every_command() -> Iterator[tuple[str, ...]]:
    for name, command in visible(cli):
        if isinstance(command, click.Group):
            yield from ((name, verb) for verb, _ in visible(command))
        else:
            yield (name,)


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_shared_options_end_the_help_of_each_command(words: tuple[str, ...]) -> None:
    lines = helped(*words)

    assert "Shared options:" in lines
    at = lines.index("Shared options:")
    shared = [line.split() for line in lines[at + 1 :] if line[:3].strip() == "-"]
    spelt = {part.rstrip(",") for parts in shared for part in parts if part.startswith("--")}
    assert "--help" in spelt
    assert spelt <= {"--url", "--namespace", "--config", "--json", "--help"}
    own = " ".join(lines[lines.index("Options:") : at]) if "Options:" in lines else ""
    assert not [one for one in ("--url", "--config FILE", "--json", "--help") if one in own.split()]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("former", "now", "state"),
    [
        (["suspend"], "rqd pause --all", {"*"}),
        (["queue", "low", "pause", "--for", "1h"], "rqd pause low", {"low"}),
        (["queue", "pause", "low"], "rqd pause low", {"low"}),
    ],
)
def test_a_former_spelling_does_the_same_and_names_the_new_one(
    former: list[str], now: str, state: set[str], there: Backend
) -> None:
    ran = rqd(*former, url=there.url)

    assert ran.status == 0
    (note,) = ran.err.splitlines()
    assert note.startswith("rqd: `rqd ")
    assert f"is now `{now}`" in note
    assert len(there.views.paused()) == len(state)
    again = rqd(*(["resume"] if "suspend" in former else ["queue", "low", "resume"]), url=there.url)
    assert (again.status, again.err.count("\n")) == (0, 1)
    assert there.views.paused() == {}


def test_former_spellings_for_masters_name_the_new_ones(there: Backend) -> None:
    for words, now in (
        (["drain"], "rqd pause --all-masters"),
        (["drain", "--name", "m"], "rqd pause --master m"),
        (["undrain", "--host", "h"], "rqd resume --host h"),
    ):
        note, error = rqd(*words, url=there.url).err.splitlines()
        assert f"is now `{now}`" in note
        assert error.startswith("rqd: no master")
