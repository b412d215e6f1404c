"""What the pages list is what there is, all of it: modules, commands, options, variables, fields.

tests/system/test_docs.py runs what they show.
"""

import ast
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from rqd import exceptions
from rqd.cli.bulk import EX_REFUSED
from rqd.cli.cron import command as cron
from rqd.cli.enqueue import EX_JOB_FAILED
from rqd.cli.grammar import VerbGroup
from rqd.cli.job import EX_STILL_RUNS
from rqd.cli.main import _STATUS, cli
from rqd.client.cron import _IN_FILES
from rqd.client.job_views import describe_attempt
from rqd.client.options import WAITS, JobOptions
from rqd.client.results import _DETAILS, Result
from rqd.daemon.config import _FOR_A_START
from rqd.daemon.lifecycle import _EX_CONFIG, EX_TEMPFAIL
from rqd.daemon.signals import HANDLED
from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Stopped,
    TimedOut,
    cause,
)

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "systemd").glob("*.md")]
)
# The options that nearly all commands have, and those with an entry's arguments of their own.
EVERYWHERE = {"--url", "--namespace", "--config", "--json", "--help"}
# The zygote's own, which a job never sees.
INTERNAL = {"LD_BIND_NOW"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """`rqd start` and its like, those of `rqd cron` among them."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        found = cli.get_command(context, name)
        assert found is not None
        yield f"rqd {name}", found
        if isinstance(found, click.Group):
            for inner in found.list_commands(context):
                yield f"rqd {name} {inner}", found.commands[inner]


def options_of(command: click.Command) -> set[str]:
    return {
        spelt
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        for spelt in (*option.opts, *option.secondary_opts)
    } | {"--help", "-h"}


def text_of(page: str | Path) -> str:
    """A page without what it shows in blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)


def rows_of(text: str, head: str) -> list[list[str]]:
    """The cells of the table below a line that begins so."""
    table = text[text.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_architecture_page_lists_every_module_of_the_daemon_once_by_folder() -> None:
    page = text_of("docs/architecture.md")
    section = page[page.index("The daemon's modules,") : page.index("The user's side:")]
    folder, listed = "", []
    for row in re.findall(r"^\| ([^|]+) \|", section, re.M):
        if head := re.search(r"in `(?:rqd/daemon/)?([a-z]*/?)`$", row):
            folder = head[1]
        listed += [f"{folder}{name}.py" for name in re.findall(r"`([a-z_]+)\.py`", row)]
    root = ROOT / "rqd" / "daemon"
    modules = {str(path.relative_to(root)) for path in root.rglob("*.py")}

    assert sorted(listed) == sorted(one for one in modules if not one.endswith("__init__.py"))


def test_contributors_are_told_of_every_command_and_folder_of_tests() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    programs = {f"bin/{path.name}" for path in (ROOT / "bin").iterdir() if not path.suffix}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}

    assert {one for one in programs if f"`{one}`" not in page} == set()
    assert {one for one in folders if not re.search(rf"\b{one} \(|\b{one},", page)} == set()


def test_the_command_lines_page_names_every_command() -> None:
    spans = " ".join(quoted(text_of("docs/command-line.md")))

    assert [name for name, _ in commands() if name.count(" ") == 1 and name not in spans] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_on_a_page_has_the_options_it_is_shown_with(page: Path) -> None:
    known = dict(commands())
    wrong = []
    for span in re.findall(r"`(rqd [^`]+)`", text_of(page).replace("\n", " ")):
        words = span.split(" -- ")[0].split()
        name, rest = " ".join(words[:2]), words[2:]
        if name not in known:
            continue
        if isinstance(group := known[name], VerbGroup) and "--help" not in rest:
            # A page may name a verb alone, without the name that it needs.
            context = click.Context(group, info_name=name, resilient_parsing=len(rest) == 1)
            verb = group.verb_first(context, rest)[0]
            name = f"{name} {verb}"
        takes = options_of(known[name])
        given = (word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word))
        wrong += [span for option in given if option.rstrip(".,") not in takes]

    assert wrong == []


def test_the_enqueueing_page_lists_every_option_of_enqueue() -> None:
    rows = rows_of(text_of("docs/enqueueing.md"), "| option |")
    listed = [name for row in rows for name in quoted(row[0])]

    assert sorted(listed) == sorted(
        {*JobOptions.__dataclass_fields__, *WAITS, "pipeline"} - {"group_id"}
    )


def test_the_enqueueing_page_lists_every_error() -> None:
    rows = rows_of(text_of("docs/enqueueing.md"), "| error |")
    listed = [name for row in rows for name in quoted(row[0])]

    assert sorted([*listed, "RqdError"]) == sorted(exceptions.__all__)


def test_the_enqueueing_page_names_every_option_of_the_command() -> None:
    page = (ROOT / "docs/enqueueing.md").read_text() + (ROOT / "docs/retries.md").read_text()
    spelt = {one for one in options_of(dict(commands())["rqd enqueue"]) if one.startswith("--")}

    assert {one for one in spelt - EVERYWHERE - {"--queue"} if one not in page} == set()


def test_the_schedules_page_lists_what_an_entry_may_have() -> None:
    rows = rows_of(text_of("docs/schedules.md"), "| in a file |")
    in_files = [name for row in rows for name in quoted(row[0])]
    spelt = {name for row in rows for name in quoted(row[1]) if name.startswith("--")}
    added = {one for one in options_of(cron.commands["add"]) if one.startswith("--")}

    assert sorted(in_files) == sorted({*_IN_FILES, "[NAME]"})
    assert spelt == added - EVERYWHERE


def test_the_command_lines_page_lists_every_exit_status() -> None:
    rows = rows_of(text_of("docs/command-line.md"), "| status |")
    listed = {int(status) for row in rows for status in row[0].split(", ")}
    of_commands = {EX_JOB_FAILED, EX_STILL_RUNS, EX_REFUSED, *(code for _, code in _STATUS)}
    of_start = {EX_TEMPFAIL, _EX_CONFIG, 128 + signal.SIGABRT}

    assert listed == {0, *of_commands, *of_start, 128 + signal.SIGINT}


def test_the_settings_page_says_which_settings_need_a_restart() -> None:
    told = re.search(r"^- (`.*) need a restart", text_of("docs/settings.md"), re.M)

    assert told is not None
    assert {name.replace("-", "_") for name in quoted(told[1])} == set(_FOR_A_START)


def test_the_settings_page_lists_every_other_variable_that_is_read() -> None:
    rows = rows_of(text_of("docs/settings.md"), "| variable |")
    settings = {"RQD_URL", "RQD_NAMESPACE"}
    listed = {name for row in rows for name in quoted(row[0])}
    read = {
        name
        for path in (ROOT / "rqd").rglob("*.py")
        for name in variables_read(ast.parse(path.read_text()))
    }

    assert read - settings - INTERNAL - listed == set()


def variables_read(tree: ast.Module) -> Iterator[str]:
    """The names in `os.environ.get("NAME")` and `os.environ["NAME"]`."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "pop"),
                    args=[ast.Constant(value=str(name)), *_],
                )
                | ast.Subscript(
                    value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name))
                )
            ):
                yield name


def test_the_forensics_page_lists_every_field_of_an_attempt() -> None:
    rows = rows_of(text_of("docs/forensics.md"), "| field of `--json` |")
    attempt: Any = Result.__new__(Result)
    given = {"attempt": 1, "type": "failed", "created_at": None, "cause": "", "exc_string": ""}
    told = {**given, "stack": "", "output": "", "details": dict.fromkeys(_DETAILS, 0)}
    vars(attempt).update(told)

    assert sorted(name for row in rows for name in quoted(row[0])) == sorted(
        describe_attempt(attempt)
    )


@pytest.mark.parametrize(
    "outcome",
    [
        Raised("builtins.ValueError", "no", ""),
        AskedAgain(3),
        TimedOut(60, killed=True),
        OutOfMemory(2**30, 2**29),
        Crashed(signal=9),
        Crashed(exit_status=3),
        Released("its daemon stops"),
        Lost("its zygote died"),
        Refused("not signed"),
        Parked("signed with another key", 30),
        Stopped("ann"),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_the_forensics_page_says_what_a_cause_means(outcome: Outcome) -> None:
    rows = rows_of(text_of("docs/forensics.md"), "| a cause that begins with |")
    beginnings = [name.rstrip(".") for row in rows for name in quoted(row[0])]

    assert sum(cause(outcome).startswith(one) for one in beginnings) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/operating.md"])
def test_a_page_of_signals_has_every_one_that_does_something(page: str) -> None:
    table = text_of(page).partition("| signal ")[2].partition("\n\n")[0]
    handled = {signum.name.removeprefix("SIG") for signum in HANDLED} - {"CHLD", "WINCH"}
    # Ctrl-C and Ctrl-Z are what people know them by.
    words = set(re.findall(r"[A-Z0-9]+", table.replace("SIG", "")))
    known = (
        words
        | ({"INT"} if "Ctrl-C" in table else set())
        | ({"TSTP"} if "Ctrl-Z" in table else set())
    )

    assert handled - known == set()
