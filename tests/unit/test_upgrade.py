"""The steps of an upgrade, up to the exec, which is not carried out here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from rqd.daemon.reload.upgrade import Upgrade


class Executes(Exception):
    """The point from which on there is no way back."""


class Trial:
    """In place of a process of the new version, which has nothing against it."""

    pid = pidfd = 0
    give_up_at = 31.0
    has_ended = False

    def is_over(self, _now: float) -> bool:
        return self.has_ended

    def error(self) -> str:
        return ""

    def end(self) -> None:
        """It ends by itself."""


class Stage:
    """A master that is asked to upgrade."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.zygotes = SimpleNamespace(is_settled=True)
        self.dispatch = SimpleNamespace(has_unfinished=False, is_held=False)
        children: Any = SimpleNamespace(is_ready=True, zygotes=self.zygotes)
        dispatch: Any = self.dispatch
        others: Any = SimpleNamespace(watch=_nothing, forget=_nothing, info=_nothing)
        others.has_signals = lambda: bool(self.signals)
        others.close = self._close
        self.upgrade = Upgrade(children, dispatch, others, others, _nothing, others)
        self.upgrade.begin("id", 1.0)

    def _close(self) -> None:
        raise Executes


def _nothing(*_: object, **_more: object) -> Any:
    return None


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    trial, upgrade = Trial(), "rqd.daemon.reload.upgrade"
    monkeypatch.setattr(f"{upgrade}.handover.write", lambda _: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(f"{upgrade}.Trial", lambda *_: trial)
    return trial


@pytest.fixture
def stage(trial: Trial) -> Stage:
    return Stage()


def test_the_new_version_is_executed_as_soon_as_its_trial_is_over(
    stage: Stage, trial: Trial
) -> None:
    stage.upgrade.perform(2.0)
    trial.has_ended = True
    with pytest.raises(Executes):
        stage.upgrade.perform(3.0)


def test_what_an_upgrade_waits_for_has_its_time(stage: Stage, trial: Trial) -> None:
    trial.has_ended, stage.zygotes.is_settled = True, False
    stage.dispatch.has_unfinished = True
    stage.upgrade.perform(2.0)
    assert (stage.dispatch.is_held, stage.upgrade.next_due()) == (False, 62.0)

    stage.zygotes.is_settled = True
    stage.upgrade.perform(3.0)
    assert (stage.dispatch.is_held, stage.upgrade.next_due()) == (True, 5.0)

    stage.dispatch.has_unfinished = False
    with pytest.raises(Executes):
        stage.upgrade.perform(4.0)


def test_what_signals_ask_for_comes_before_the_exec(stage: Stage, trial: Trial) -> None:
    trial.has_ended, stage.signals = True, [15]
    for now in (2.0, 2.1, 2.2):
        stage.upgrade.perform(now)
    assert stage.upgrade.is_under_way

    stage.signals.clear()
    with pytest.raises(Executes):
        stage.upgrade.perform(2.3)
