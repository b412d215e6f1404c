"""What `rq_suite.py` and `django_suite.py` share: a project's own tests, run against rqd.

The tests come from the package registry. A list beside the module has their ids, each with a reason
if it can't pass.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

KINDS = ("passed", "by design", "not yet")


class CannotRun(Exception):
    """The project's source can't be had, or its tests can't be run."""


def listed_lines(path: Path) -> list[str]:
    """Returns the lines of a list: an id, and behind a space the reason if it can't pass."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def listed(path: Path) -> dict[str, str]:
    """Returns the reason for each id of a list; it is empty for a test that passes."""
    parts = (line.partition(" ") for line in listed_lines(path))
    return {name: reason.strip() for name, _, reason in parts}


def download(release: str, folder: Path) -> Path:
    """Has pip download the source of a release, such as rq==3.0.0. Raises CannotRun."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), release]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob(f"{release.partition('==')[0]}-*.tar.gz"))
    if done.returncode or not found:
        raise CannotRun(f"pip could not download {release}: {done.stderr.strip()[-500:]}")
    return found[0]


def cases_of(report: Path) -> Iterator[tuple[str, str, str]]:
    """Yields class, name and failure of each test of a report in JUnit's XML, "" if it passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        bad = [one for kind in ("failure", "error", "skipped") for one in case.iter(kind)]
        failure = (bad[0].get("message") or "failed").splitlines()[0] if bad else ""
        yield case.get("classname", ""), case.get("name", ""), failure


def report_on(found: dict[str, dict[str, str]], reasons: dict[str, str], says_why: bool) -> int:
    """Prints a line for each file, the sum, and the tests that should have passed."""
    total: Counter[str] = Counter()
    surprises = []
    print(f"{'':34}" + "".join(f"{kind:>12}" for kind in KINDS))
    for name, tests in found.items():
        counts: Counter[str] = Counter()
        for test, failure in tests.items():
            reason = reasons[test]
            kind = "passed"
            if failure:
                kind = "by design" if reason.startswith("design:") else "not yet"
            counts[kind] += 1
            if failure and not reason:
                surprises.append(f"{test}: {failure}")
            elif failure and says_why:
                print(f"  {test}: {failure}")
        print(f"{name:34}" + "".join(f"{counts[kind]:>12}" for kind in KINDS))
        total += counts
    print(f"{f'of {total.total()}':34}" + "".join(f"{total[kind]:>12}" for kind in KINDS))
    for line in surprises:
        print(line)
    return 1 if surprises else 0
