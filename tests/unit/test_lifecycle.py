"""The order of what a master does at its stop."""

from types import SimpleNamespace
from typing import Any

from rqd.daemon.config import MAX_WORKERS, Config
from rqd.daemon.lifecycle import Lifecycle
from rqd.daemon.signals import Shutdown
from rqd.daemon.timers import Timers


def test_a_master_says_that_it_stops_once_no_other_job_begins() -> None:
    done: list[str] = []

    def note(what: str) -> Any:
        def noted(*_: object) -> list[object]:
            done.append(what)
            return []

        return noted

    workers = SimpleNamespace(current_attempts=list)
    pool = SimpleNamespace(
        workers=workers,
        slots=SimpleNamespace(retire_all=note("places are given up")),
        release_unsent=note("jobs are taken back"),
    )
    claims = SimpleNamespace(is_open=True)
    dispatch = SimpleNamespace(add_ended=lambda _ended: None, claims=claims)
    log = SimpleNamespace(info=lambda event, **_fields: done.append(event))
    parts: tuple[Any, ...] = (Config("redis://h"), pool, dispatch, Timers(), log)
    lifecycle = Lifecycle(*parts)

    lifecycle.stop(Shutdown.GRACEFUL, 0.0)

    assert not claims.is_open
    assert done.index("jobs are taken back") < done.index("stopping")


def test_no_signal_takes_a_master_past_the_most_workers() -> None:
    resized: list[int] = []
    pool = SimpleNamespace(
        slots=SimpleNamespace(resize_to=lambda count, _now: resized.append(count)),
        zygotes=SimpleNamespace(table=[]),
    )
    told: list[tuple[str, object]] = []
    log = SimpleNamespace(
        warning=lambda event, error: told.append((event, error)), info=lambda *_, **__: None
    )
    parts: tuple[Any, ...] = (Config("redis://h"), pool, SimpleNamespace(), Timers(), log)
    lifecycle = Lifecycle(*parts)

    why = lifecycle.resize(MAX_WORKERS + 1, 0.0)

    assert why == "it can have 1 to 1,000 workers"
    assert told == [("workers not resized", why)]
    assert lifecycle.resize(0, 0.0) == ""  # TTOU of one worker
    assert resized == [1]
