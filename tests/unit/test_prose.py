"""Plain English: a docstring begins with a verb or names its noun (CONTRIBUTING.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "rqd"
# A reader has to look for the noun that such a word stands for.
POINTING = re.compile(
    r"(Those|These|This|That|They|Such|What|Whatever|Who|Whoever|Which|Of|It|Its|One|Ones|None|Else"
    r"|Where|When|If|So|Also|Here|There)\b"
)


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


@pytest.mark.parametrize("folder", [".", "model", "store", "client", "daemon", "cli"])
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
