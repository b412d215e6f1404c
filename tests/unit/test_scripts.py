"""The Lua files: put together as they say, each with its contract at its head."""

import re
from hashlib import sha1
from itertools import takewhile
from pathlib import Path

import pytest

from rqd.store.crons import Crons
from rqd.store.scripts import load_script
from rqd.store.store import Store

FOLDER = Path(__file__).parent.parent.parent / "rqd" / "store" / "lua"
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_its_parts_before_it_and_no_comments(name: str) -> None:
    script = load_script(name)

    assert script.source.startswith("local P = ")
    assert not re.search(r"^\s*--", script.source, re.M)
    assert script.sha == sha1(script.source.encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_a_scripts_head_says_what_it_takes_and_gives_and_why_it_is_safe_twice(name: str) -> None:
    lines = (FOLDER / f"{name}.lua").read_text().splitlines()
    head = list(takewhile(lambda line: line.startswith("--"), lines))

    assert head[0].startswith(f"-- {name}: ")
    for word in ("KEYS[1]", "ARGV", "returns", "Safe to send twice:"):
        assert any(line.startswith(f"-- {word}") for line in head), word


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_a_method_of_the_store(name: str) -> None:
    owner = Crons if name.startswith("cron_") else Store
    assert callable(getattr(owner, name.removeprefix("cron_")))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.lua")), ids=lambda path: path.stem)
def test_a_script_searches_through_no_keys(path: Path) -> None:
    assert not re.search(r"call\('(KEYS|SCAN|FLUSH\w+|RANDOMKEY)'", path.read_text())


def test_every_shared_part_is_used() -> None:
    used = {part for name in NAMES for part in uses(FOLDER / f"{name}.lua")}

    assert used == {path.stem for path in (FOLDER / "lib").glob("*.lua")}


@pytest.mark.parametrize("name", NAMES)
def test_a_script_that_can_end_a_job_tells_all_that_an_ending_concerns(name: str) -> None:
    parts = uses(FOLDER / f"{name}.lua")
    if "ending" in parts:
        after = parts.index("ending") + 1
        assert parts[after : after + 3] == ["callbacks", "dependents", "groups"]


def uses(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [part for line in lines if line.startswith("--@") for part in line[3:].split()]
