"""The recipes for web frameworks, each served as its README says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemons import ROOT, Daemon, StartDaemon
from tests.examples.serving import Shelf, Site, command_of
from tests.processes import found_first

Serve = Callable[..., Site]
Work = Callable[..., Daemon]


@pytest.fixture(params=["fastapi", "flask"])
def example(request: pytest.FixtureRequest) -> str:
    """The name of an example; the test runs on each."""
    name: str = request.param
    return name


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Serve]:
    """Starts an example's web server, on the run's server unless told another URL."""
    with ExitStack() as opened:

        def start(example: str, target: str = "", url: str = redis_url) -> Site:
            return opened.enter_context(Site(example, tmp_path, url, target))

        yield start


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The pipe that holds the jobs of a daemon that preloads `held`."""
    return Shelf(tmp_path)


@pytest.fixture
def work(start_daemon: StartDaemon, tmp_path: Path, shelf: Shelf) -> Work:
    """Starts an example's daemon by the command of its README; `preload` is loaded besides."""

    def start(example: str, preload: str = "") -> Daemon:
        _, _, *options = command_of(example, "rqd start")
        if preload:
            options[options.index("--preload") + 1] += f",{preload}"
        env = {**found_first(tmp_path), "SHELF": str(shelf.path)}
        cwd = ROOT / "examples" / example
        return start_daemon(*options, queues="", workers=2, cwd=cwd, env=env)

    return start
