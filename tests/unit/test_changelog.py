"""The changelog's Unreleased is a page that a user reads in five minutes."""

import re
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent.parent / "CHANGELOG.md"
SECTIONS = ["Security", "Changed", "Added", "Removed", "Fixed"]
# Five minutes at 300 words a minute; a link's address is no word.
WORDS = 1_500


def unreleased() -> str:
    return CHANGELOG.read_text().partition("## [Unreleased]")[2].partition("\n## ")[0]


def test_the_unreleased_changes_are_read_in_five_minutes() -> None:
    text = re.sub(r"\]\([^)]*\)", "]", unreleased())

    assert len(re.findall(r"\w\S*", text)) <= WORDS


def test_the_unreleased_changes_begin_with_those_to_act_upon() -> None:
    sections = re.findall(r"^### (.+)$", unreleased(), re.M)

    assert sections == [section for section in SECTIONS if section in sections]
