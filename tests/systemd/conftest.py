"""One box, one boot, for all the tests of a run."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.systemd.box import Box, why_not

_box = pytest.StashKey[Box]()


@pytest.fixture(scope="session")
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A booted machine, in which rqd is installed as systemd/README.md says."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Box() as made:
        made.install()
        request.session.stash[_box] = made
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the box's journal where a test failed."""
    report = yield
    if report.failed and (box := item.session.stash.get(_box, None)) is not None:
        told = box.run("journalctl", "--no-pager", "--output=short-precise", "--lines=200")
        report.sections.append(("journal", told.stdout))
    return report
