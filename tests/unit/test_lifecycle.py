"""The order of what a master does at its stop."""

from types import SimpleNamespace
from typing import Any

from rqd.daemon.config import Config
from rqd.daemon.lifecycle import Lifecycle
from rqd.daemon.signals import Shutdown


def test_a_master_says_that_it_stops_once_no_other_job_begins() -> None:
    done: list[str] = []

    def note(what: str) -> Any:
        def noted(*_: object) -> list[object]:
            done.append(what)
            return []

        return noted

    workers = SimpleNamespace(runs=list)
    children = SimpleNamespace(
        workers=workers,
        places=SimpleNamespace(retire_all=note("places are given up")),
        release_unsent=note("jobs are taken back"),
    )
    dispatch = SimpleNamespace(take=lambda _ended: None, is_open=True)
    log = SimpleNamespace(info=lambda event, **_fields: done.append(event))
    duties, config = SimpleNamespace(hasten=note("beat")), Config("redis://h")
    parts: tuple[Any, ...] = (config, children, dispatch, duties, log, lambda: None)
    lifecycle = Lifecycle(*parts)

    lifecycle.stop(Shutdown.GRACEFUL, 0.0)

    assert not dispatch.is_open
    assert done.index("jobs are taken back") < done.index("stopping")
