"""The list of Django's own tests that benchmarks/django_suite.py runs, and the page that counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks import django_suite, suites

PAGE = Path(__file__).parent.parent.parent / "docs" / "django.md"


def test_the_page_counts_djangos_tests_as_the_list_does() -> None:
    reasons = suites.listed(django_suite.LIST)
    theirs = [why for name, why in reasons.items() if not name.startswith("test_samples.py")]
    told = (
        f"Of the {len(theirs)} tests that Django 6.1 has of its tasks, {theirs.count('')} pass on"
        f" rqd, and its {len(reasons) - len(theirs)} sample tasks end as they do in Django."
    )

    assert told in " ".join(PAGE.read_text().split())
    assert all(one.startswith("design: ") for one in theirs if one)
