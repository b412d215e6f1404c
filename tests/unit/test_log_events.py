"""docs/logging.md lists all events of the daemon's log, each with its level and its fields."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LEVELS = {"debug", "info", "warning", "error"}
JOB = {"job_id", "func", "queue", "attempt"}
# `args` and the like would be a job's arguments; `id` and `name` leave open whose.
FORBIDDEN = {"args", "kwargs", "arguments", "payload", "id", "name", "job", "result"}
# What records have by themselves.
TAKEN = {"time", "level", "event", "master", "line", "message", "priority"}

Event = tuple[str, str, frozenset[str]]  # level, text, fields


def events_in(tree: ast.Module) -> Iterator[Event]:
    """Each call of a log, or of what logs a refusal of Redis."""
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method, of = node.func.attr, ast.unparse(node.func.value)
        if method in LEVELS and of in ("log", "self._log"):
            level, more = method, set[str]()
        elif method == "log_rejection":
            level, more = "error", {"error"}
        else:
            continue
        match node.args[0]:
            case ast.Constant(value=str(text)):
                fields = {name for word in node.keywords for name in names_of(word, named)}
                yield level, text, frozenset(fields | more)
            case other:
                assert ast.unparse(other) == "message", f"no constant text: {ast.unparse(node)}"


def names_of(word: ast.keyword, named: dict[str, ast.expr]) -> set[str]:
    """The fields that one keyword argument stands for, `**` among them."""
    if word.arg is not None:
        return {word.arg}
    given = named[word.value.id] if isinstance(word.value, ast.Name) else word.value
    if isinstance(given, ast.Dict):
        inner = [
            ast.keyword(getattr(k, "value", None), v)
            for k, v in zip(given.keys, given.values, strict=True)
        ]
        return {name for one in inner for name in names_of(one, named)}
    assert ast.unparse(given).startswith("about("), ast.unparse(given)
    return JOB


@cache
def events() -> set[Event]:
    return (
        {
            event
            for folder in ("daemon", "bridge")
            for path in sorted((ROOT / "rqd" / folder).rglob("*.py"))
            if path.name != "log.py"
            for event in events_in(ast.parse(path.read_text()))
        }
        | {("warning", "log was not read, a part is lost", frozenset({"lost_bytes"}))}
        | {("warning", "log can't be opened anew, the old one serves on", frozenset({"error"}))}
    )


def documented() -> list[Event]:
    rows = re.findall(
        r"^\| `([^`]+)` \| (debug|info|warning|error) \| ([^|]*) \|",
        (ROOT / "docs" / "logging.md").read_text(),
        re.M,
    )
    return [
        (
            level,
            text,
            frozenset(name for word in fields.split(", ") if word for name in expanded(word)),
        )
        for text, level, fields in rows
    ]


def expanded(word: str) -> set[str]:
    return JOB if word == "*job*" else {word.strip("`")}


def test_the_documentation_lists_every_event_with_its_level_and_fields() -> None:
    listed = documented()
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(events())


def test_fields_have_one_name_everywhere_and_hold_no_arguments() -> None:
    used = {name for _, _, fields in events() for name in fields}
    assert used & FORBIDDEN == set()
    assert used & TAKEN <= {"master"}
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in used)
