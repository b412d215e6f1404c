"""The list of RQ's own tests that benchmarks/rq_suite.py runs, and the page that tells of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import rq_names, rq_suite, suites

PAGE = Path(__file__).parent.parent.parent / "docs" / "migrating-from-rq.md"


def test_every_reason_is_a_row_of_the_page() -> None:
    page = re.sub(r"[`*]", "", PAGE.read_text())
    reasons = set(suites.listed(rq_suite.LIST).values()) - {""}

    unknown = [one for one in reasons if not one.startswith(("design: ", "not yet: "))]
    rows = [one.removeprefix("design: ") for one in reasons if one.startswith("design: ")]

    assert unknown == []
    assert [row for row in rows if row not in page] == []


def test_the_page_counts_the_tests_as_the_list_does() -> None:
    lines = [one for one in suites.listed_lines(rq_suite.LIST) if "::" in one]
    counts = Counter(one.partition(" ")[2].partition(":")[0] for one in lines)
    told = (
        f"the {len(lines)} black-box tests among them against rqd. Of these {counts['']} pass,"
        f" {counts['design']} are different for a reason on this page, and {counts['not yet']} do"
        " not pass yet."
    )

    assert len(suites.listed(rq_suite.LIST)) == len(lines), "a test is listed twice"
    assert told in " ".join(PAGE.read_text().split())


def test_a_test_imports_rqd_and_connects_to_the_server(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    path = tmp_path / "tests" / "test_it.py"
    path.write_text(
        "from redis import Redis\n"
        "from rq import (\n    Queue,\n    NoSuch as Gone,\n)\n"
        "import rq.job\n"
        "found = [rq, Queue, 'rq.job.Job', 'redis://127.0.0.1:6379/1']\n"
    )
    server: Any = SimpleNamespace(address=("127.0.0.1", 7777))

    rq_suite.rewrite(tmp_path, server)

    text = path.read_text()
    assert "rq_names.names('rqd', {'Queue': 'Queue', 'Gone': 'NoSuch'})" in text
    assert "import rqd.job" in text
    assert "'rqd.job.Job', 'redis://127.0.0.1:7777/1'" in text
    assert len(text.splitlines()) == 7, "lines stay where they were"


def test_a_name_that_is_not_there_fails_where_it_is_used_alone() -> None:
    found = rq_names.names("rqd", {"Queue": "Queue", "Gone": "NoSuch"})

    assert found["Queue"].__name__ == "Queue"
    gone: Any = found["Gone"]
    own: Any = type("Own", (gone,), {})
    for kind in (gone, own):
        with pytest.raises(ImportError, match=r"rqd\.NoSuch: "):
            kind()
        with pytest.raises(ImportError, match=r"rqd\.NoSuch: "):
            kind.attribute  # noqa: B018 - the look raises


@pytest.mark.parametrize(
    ("failure", "reason", "status"),
    [("", "", 0), ("broken", "", 1), ("broken", "design: x", 0), ("broken", "not yet: x", 0)],
)
def test_only_a_test_that_should_have_passed_is_a_failure(
    failure: str, reason: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "test_it.py::Case::test"

    assert suites.report_on({"test_it.py": {name: failure}}, {name: reason}, False) == status
    assert (f"{name}: broken" in capsys.readouterr().out) is bool(status)
