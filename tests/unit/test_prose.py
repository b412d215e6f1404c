"""Plain English: docstrings and helps begin with a verb or name their noun (CONTRIBUTING.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rqd.cli.main import _FORMER, _OF_RQ, cli

PACKAGE = Path(__file__).parent.parent.parent / "rqd"
# A reader has to look for the noun that such a word stands for.
POINTING = re.compile(
    r"(Those|These|This|That|They|Such|What|Whatever|Who|Whoever|Which|Of|It|Its|One|Ones|None|Else"
    r"|Where|When|If|So|Also|Here|There)\b"
)


# A subject without a noun, at the start of any sentence; and words of a private language.
VAGUE = re.compile(
    r"\A(Those|These|What|Whatever|Who|Whoever|Which|One|Ones|None|Such|That|Else)\b"
)
PRIVATE = re.compile(r"\banew\b|\bsuch a one\b|\b(is|are) told\b|\bof which\b|\btakes\b", re.I)
MOST_WORDS = 25


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each docstring in a module."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def pointing(source: str) -> list[str]:
    """The docstrings that begin with a pronoun or a relative: a line each."""
    return [
        f"{line}: {text.splitlines()[0]}"
        for line, text in docstrings(source)
        if POINTING.match(text)
    ]


@pytest.mark.parametrize("folder", [".", "model", "store", "client", "daemon", "cli", "bridge"])
def test_no_docstring_begins_with_a_word_that_points_elsewhere(folder: str) -> None:
    root = PACKAGE / folder
    paths = sorted(root.glob("*.py") if folder == "." else root.rglob("*.py"))
    assert paths
    found = [
        f"{path.relative_to(PACKAGE)}:{one}" for path in paths for one in pointing(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["What came of it.", "Those of others.", "None for none."])
def test_a_pointing_docstring_is_found(text: str) -> None:
    assert pointing(f'def f():\n    """{text}"""\n') == [f"2: {text}"]
    assert pointing(f'def f():\n    """Returns {text}"""\n') == []


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """(place, text) of the help of a command, its options and all commands below it."""
    yield path, command.help or ""
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            yield f"{path} {max(option.opts, key=len)}", option.help or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        former = (*_FORMER, *_OF_RQ) if command is cli else ()
        for name in (*command.list_commands(context), *former):
            found = command.get_command(context, name)
            assert found is not None
            yield from helps(found, f"{path} {name}")


def sentences(text: str) -> list[str]:
    """The sentences of a help; the lines behind a mark of click's are shown as they are."""
    prose = re.sub(r"\s+", " ", text.partition("\b")[0].partition("  [default")[0]).strip()
    return [one for one in re.split(r"(?<=[.]) (?=[A-Z`-])", prose) if one]


def unclear(text: str) -> list[str]:
    """The reasons for which a reader would have to read a help twice."""
    found = [one for one in sentences(text) if VAGUE.match(one) or PRIVATE.search(one)]
    found += [one for one in sentences(text) if len(one.split()) > MOST_WORDS]
    if not text or POINTING.match(text):
        found.append(text or "no help")
    return found


def test_every_help_of_the_command_line_is_plain() -> None:
    found = dict(helps(cli, "rqd"))

    assert len(found) > 100
    wrong = {place: why for place, text in found.items() if (why := unclear(text))}
    assert not wrong, wrong


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Of this queue.",
        "Stop jobs. What came of it is shown.",
        "Load the code anew.",
        "Show those masters. Such a one is old.",
        "Print the permissions. " + "Word " * 26 + "ends.",
    ],
)
def test_an_unclear_help_is_found(text: str) -> None:
    assert unclear(text)
    assert unclear("Show jobs. It exits with 1 if a job failed.  [default: what holds]") == []
