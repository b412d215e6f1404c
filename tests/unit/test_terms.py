"""The field of a job's hash that few jobs have."""

from __future__ import annotations

import pytest

from rqd.model.terms import dump_terms, read_terms


def test_terms_come_back_as_they_went() -> None:
    terms = {"b": [1, 2.5, "c"], "a": {"d": None}}
    assert read_terms(dump_terms(terms)) == terms


def test_no_terms_are_no_text() -> None:
    assert dump_terms({}) == ""
    assert read_terms("") == {}


@pytest.mark.parametrize("text", ["[1]", "{", "nan", "[" * 100_000, '"a"', "\ufffd"])
def test_damaged_terms_are_none(text: str) -> None:
    assert read_terms(text) == {}
