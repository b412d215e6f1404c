"""Which zygote serves, and what a reload comes to, without a process."""

import errno
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rqd import __version__
from rqd.daemon.zygote.protocol import FORMAT
from rqd.daemon.zygotes.events import Ready, Unforkable
from rqd.daemon.zygotes.learning import WORTH_S, Learning
from rqd.daemon.zygotes.manager import Zygotes
from rqd.daemon.zygotes.process import ZygoteProcess


class Fake:
    """What Zygotes sees of a zygote."""

    def __init__(self, pid: int, learnt: tuple[str, ...] = ()) -> None:
        self.learnt = learnt
        self.pid = self.pidfd = self.control_fd = self.output_fd = pid
        self.is_dismissed = self.has_ended = self.is_closed = self.is_unresponsive = False
        self.looks = 0

    def end(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    def check_alive(self) -> None:
        self.looks += 1

    def read_output(self) -> tuple[bytes, bool]:
        return b"", True

    def shut_down(self) -> None:
        self.is_dismissed = True


class Quiet:
    """A loop and a log that nobody looks at."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_fields: None


def spawner(spawn: Callable[[tuple[str, ...]], Any]) -> Any:
    """In place of a ZygoteSpawner."""

    def of_both(learnt: tuple[str, ...], **_: object) -> Any:
        return spawn(learnt)

    return SimpleNamespace(spawn=of_both, config=None)


@pytest.fixture
def made() -> list[Any]:
    return []


@pytest.fixture
def zygotes(made: list[Any]) -> Zygotes:
    def spawn(learnt: tuple[str, ...]) -> Any:
        made.append(Fake(100 + len(made), learnt))
        return made[-1]

    quiet: Any = Quiet()
    zygotes = Zygotes(spawner(spawn), quiet, quiet, Learning())
    zygotes.boot(0.0)
    assert not zygotes.note_ready(made[0], ready(made[0]), 1.0)
    return zygotes


def ready(zygote: Any, version: str = __version__) -> Ready:
    return Ready(zygote.pid, version, 1_000_000)


def state(zygotes: Zygotes) -> tuple[str, str, str]:
    latest = zygotes.reloads.latest
    assert latest is not None
    return latest.requests[-1], latest.state, latest.error


def test_the_old_one_leaves_when_nobody_needs_it(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("r1", 10.0)
    assert zygotes.table.serving == made[0]
    assert zygotes.note_ready(made[1], ready(made[1]), 11.0)
    assert (zygotes.table.serving, zygotes.table.leaving) == (made[1], [made[0]])
    assert state(zygotes) == ("r1", "done", "")
    zygotes.table.dismiss({made[0].pid}, 11.0)
    assert not made[0].is_dismissed
    zygotes.table.dismiss(set(), 11.0)
    assert made[0].is_dismissed
    zygotes.note_lost(made[0], 0, 12.0)
    assert list(zygotes.table) == [made[1]]
    assert zygotes.is_ready


def test_one_that_hangs_at_its_boot_is_given_up(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("", 10.0)
    assert zygotes.next_due() == 70.0
    zygotes.end_overdue(69.9)
    assert zygotes.table.following == made[1]
    zygotes.end_overdue(70.0)
    assert state(zygotes) == ("", "refused", "it was not ready after 60 s")
    assert made[1].has_ended
    assert zygotes.table.serving == made[0]
    # What it still says changes nothing.
    assert not zygotes.note_ready(made[1], ready(made[1]), 70.1)
    zygotes.note_boot_failed(made[1], "late")
    assert state(zygotes)[2] == "it was not ready after 60 s"
    assert zygotes.table.serving == made[0]


def test_an_application_that_boots_for_long_gets_longer(made: list[Any]) -> None:
    quiet: Any = Quiet()
    zygotes = Zygotes(spawner(lambda _: made[-1]), quiet, quiet, Learning())
    made.append(Fake(1))
    zygotes.boot(0.0)
    zygotes.note_ready(made[0], ready(made[0]), 20.0)
    zygotes.follow("", 100.0)
    assert zygotes.next_due() == 300.0


def test_a_reload_during_a_reload_begins_anew(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("r1", 10.0)
    zygotes.follow("r2", 11.0)
    assert made[1].has_ended
    assert zygotes.table.following == made[2]
    assert not zygotes.note_ready(made[1], ready(made[1]), 11.5)
    zygotes.note_lost(made[1], -9, 11.6)
    assert zygotes.note_ready(made[2], ready(made[2]), 12.0)
    assert state(zygotes) == ("r2", "done", "")


def test_another_version_of_rqd_does_not_take_over(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("r1", 10.0)
    assert not zygotes.note_ready(made[1], ready(made[1], "9.9"), 11.0)
    assert state(zygotes)[1] == "refused"
    assert "rqd itself is 9.9 by now" in state(zygotes)[2]
    assert zygotes.table.serving == made[0]


@pytest.mark.parametrize("is_understood", [True, False])
@pytest.mark.parametrize("serving", ["stands still", "died"])
def test_another_version_of_rqd_serves_where_no_other_can_if_it_is_understood(
    zygotes: Zygotes, made: list[Any], serving: str, is_understood: bool
) -> None:
    if serving == "died":
        zygotes.note_lost(made[0], -9, 10.0)
        zygotes.boot(10.0)
    else:
        made[0].is_unresponsive = True
        zygotes.replace(10.0)
    other = replace(ready(made[1], "9.9"), format=FORMAT + (not is_understood))
    zygotes.note_ready(made[1], other, 11.0)
    assert made[1].has_ended == (not is_understood)
    assert zygotes.is_ready == (is_understood or serving == "stands still")
    assert (zygotes.table.serving == made[1]) == (is_understood or serving == "died")


def test_where_none_serves_the_next_boot_is_the_reload(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.note_lost(made[0], -11, 5.0)
    assert zygotes.table.boots.is_next_due(5.0)
    zygotes.boot(5.0)
    zygotes.follow("r1", 6.0)
    assert made[1].has_ended  # it may have read the old code
    zygotes.note_lost(made[1], -9, 6.1)
    assert zygotes.table.boots.is_next_due(6.1)
    zygotes.boot(6.1)
    assert not zygotes.note_ready(made[2], ready(made[2]), 7.0)
    assert state(zygotes) == ("r1", "done", "")


def test_a_restart_that_waits_is_off_when_the_next_one_serves(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.follow("r1", 10.0)
    zygotes.note_lost(made[0], -9, 10.1)
    zygotes.boot(10.1)
    zygotes.note_lost(made[2], 1, 10.2)  # it did not boot: again after a while
    assert zygotes.next_due() < 20.0
    assert zygotes.note_ready(made[1], ready(made[1]), 10.3)
    assert not zygotes.table.boots.is_next_due(1000.0)
    assert list(zygotes.table) == [made[1]]


def test_one_that_dies_soon_after_it_served_is_replaced_after_a_pause_that_grows(
    zygotes: Zygotes, made: list[Any]
) -> None:
    now, pauses = 1.0, []
    for _ in range(12):
        now += 0.05
        zygotes.note_lost(made[-1], 6, now)
        pauses.append(zygotes.next_due() - now)
        now = zygotes.next_due()
        assert zygotes.table.boots.is_next_due(now)
        zygotes.boot(now)
        now += 0.5
        zygotes.note_ready(made[-1], ready(made[-1]), now)
    assert pauses == pytest.approx([0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30])


def test_one_that_has_served_well_is_replaced_at_once_whatever_was_before_it(
    zygotes: Zygotes, made: list[Any]
) -> None:
    for now in (1.1, 2.1):
        zygotes.note_lost(made[-1], 6, now)
        zygotes.boot(now + 0.2)
        zygotes.note_ready(made[-1], ready(made[-1]), now + 0.9)
    zygotes.note_lost(made[-1], -9, 8.1)
    assert zygotes.table.boots.is_next_due(8.1)


def test_one_that_boots_for_long_and_dies_has_not_served(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.note_lost(made[0], 1, 1.1)
    zygotes.boot(1.1)
    zygotes.note_lost(made[1], 1, 100.0)
    assert not zygotes.table.boots.is_next_due(100.0)
    assert zygotes.table.boots.is_next_due(100.3)


def test_an_application_that_can_not_be_imported_for_a_day_is_still_tried_again(
    zygotes: Zygotes, made: list[Any]
) -> None:
    now = 1.0
    for _ in range(2 * 24 * 60):
        zygotes.note_lost(made[-1], 1, now)
        assert zygotes.next_due() - now <= 30
        now = zygotes.next_due()
        zygotes.boot(now)


def test_one_that_was_let_go_and_stays_is_ended(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("", 10.0)
    zygotes.note_ready(made[1], ready(made[1]), 11.0)
    zygotes.table.dismiss(set(), 12.0)
    zygotes.end_overdue(16.9)
    assert not made[0].has_ended
    assert zygotes.next_due() == 17.0
    zygotes.end_overdue(17.0)
    assert made[0].has_ended


def test_who_asked_for_a_reload_that_another_overtook_hears_of_that(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.follow("r1", 10.0)
    zygotes.follow("", 11.0)
    zygotes.note_ready(made[2], ready(made[2]), 12.0)
    assert zygotes.reloads.latest is not None
    assert (zygotes.reloads.latest.requests, zygotes.reloads.latest.state) == (("r1", ""), "done")


def test_who_serves_or_leaves_is_looked_at_every_five_seconds(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.follow("r1", 10.0)
    for now in (10.0, 14.9, 15.0, 100.0):
        zygotes.table.check_alive(now)
    assert (made[0].looks, made[1].looks) == (3, 0)
    zygotes.note_ready(made[1], ready(made[1]), 101.0)
    zygotes.table.check_alive(105.0)
    assert (made[0].looks, made[1].looks) == (4, 1)


def test_one_that_stands_still_is_followed_by_another_and_no_reload_is_told_of_it(
    zygotes: Zygotes, made: list[Any]
) -> None:
    assert not zygotes.is_replacement_due(10.0)
    made[0].is_unresponsive = True
    assert zygotes.is_replacement_due(10.0)
    zygotes.replace(10.0)
    assert not zygotes.is_replacement_due(10.0)
    zygotes.note_boot_failed(made[1], "Traceback\nImportError")
    assert zygotes.reloads.latest is None
    assert made[1].has_ended
    assert not zygotes.is_replacement_due(69.9)
    assert zygotes.is_replacement_due(70.0)
    zygotes.replace(70.0)
    assert zygotes.note_ready(made[2], ready(made[2]), 71.0)
    assert (zygotes.table.serving, zygotes.table.leaving) == (made[2], [made[1], made[0]])


@pytest.mark.parametrize("serving", ["stands still", "died", "goes round again"])
def test_where_the_next_one_fails_only_one_that_stands_still_is_to_be_replaced_in_a_minute(
    zygotes: Zygotes, made: list[Any], serving: str
) -> None:
    told: list[str] = []
    log: Any = SimpleNamespace(
        error=lambda event, **_: told.append(event), info=lambda *_, **_fields: None
    )
    zygotes._log = log
    made[0].is_unresponsive = True
    zygotes.replace(10.0)
    if serving == "died":
        zygotes.note_lost(made[0], -9, 11.0)
        zygotes.boot(11.0)
    made[0].is_unresponsive = serving == "stands still"
    zygotes.note_boot_failed(made[1], "Traceback\nImportError")
    assert ("trying again in a minute" in told[-1]) == zygotes.is_replacement_due(70.0)
    assert ("trying again in a minute" in told[-1]) == (serving == "stands still")


def test_a_reload_goes_before_a_replacement(zygotes: Zygotes, made: list[Any]) -> None:
    made[0].is_unresponsive = True
    zygotes.replace(10.0)
    zygotes.follow("r1", 11.0)
    assert made[1].has_ended
    assert not zygotes.is_replacement_due(200.0)
    assert zygotes.note_ready(made[2], ready(made[2]), 12.0)
    assert state(zygotes) == ("r1", "done", "")


def test_one_that_never_boots_is_ended_and_another_one_tried(made: list[Any]) -> None:
    quiet: Any = Quiet()
    zygotes = Zygotes(spawner(lambda _: made[-1]), quiet, quiet, Learning())
    for pid, (now, limit_s) in enumerate(((0.0, 600.0), (1000.0, 600.0)), 1):
        made.append(Fake(pid))
        zygotes.boot(now)
        assert zygotes.next_due() == now + limit_s
        zygotes.end_overdue(now + limit_s - 0.1)
        assert not made[-1].has_ended
        zygotes.end_overdue(now + limit_s)
        assert made[-1].has_ended
        zygotes.note_lost(made[-1], -9, now + limit_s)
    made.append(Fake(3))
    zygotes.boot(2000.0)
    zygotes.note_ready(made[-1], ready(made[-1]), 2001.0)
    zygotes.note_ready(made[-1], ready(made[-1]), 2001.0)  # who tells it twice does no harm
    assert zygotes.next_due() == float("inf")
    zygotes.note_lost(made[-1], -9, 3000.0)
    made.append(Fake(4))
    zygotes.boot(3000.0)
    assert zygotes.next_due() == 3060.0


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_a_reload_that_is_a_boot_is_refused_if_that_does_not_come_to_its_end(
    zygotes: Zygotes, made: list[Any], how: str
) -> None:
    zygotes.note_lost(made[0], -11, 5.0)
    zygotes.follow("r1", 6.0)
    zygotes.boot(6.0)
    if how == "hangs":
        zygotes.end_overdue(66.0)
        assert made[1].has_ended
    zygotes.note_lost(made[1], -9, 66.0)
    assert state(zygotes)[:2] == ("r1", "refused")
    assert zygotes.table.boots.is_next_due(100.0)


def test_who_was_ended_for_a_newer_code_is_not_ready_however_late_it_says_so(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.note_lost(made[0], -11, 5.0)
    zygotes.boot(5.0)
    zygotes.follow("r1", 6.0)
    assert not zygotes.note_ready(made[1], ready(made[1]), 6.1)
    assert (zygotes.is_ready, state(zygotes)[1]) == (False, "booting")


def test_who_leaves_is_looked_at_while_none_is_ready(zygotes: Zygotes, made: list[Any]) -> None:
    zygotes.follow("r1", 10.0)
    zygotes.note_ready(made[1], ready(made[1]), 11.0)
    zygotes.note_lost(made[1], -11, 12.0)
    zygotes.boot(12.0)
    zygotes.table.check_alive(13.0)
    assert (made[0].looks, made[2].looks) == (1, 0)


def test_what_the_system_does_not_take_for_now_is_sent_later() -> None:
    process, refusals = ZygoteProcess.__new__(ZygoteProcess), [errno.ETOOMANYREFS, errno.EAGAIN]
    sent: list[bytes] = []

    def sendmsg(parts: list[bytes], _ancillary: object) -> None:
        if refusals:
            raise OSError(refusals.pop(), "not now")
        sent.extend(parts)

    control: Any = SimpleNamespace(sendmsg=sendmsg)
    process._control, process.is_dismissed = control, False
    process._outbox = [(b"one", []), (b"two", [])]
    for left in (2, 2, 0):
        process.flush()
        assert len(process._outbox) == left
    assert sent == [b"one", b"two"]


def test_why_none_serves_is_what_became_of_the_latest_one(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.note_lost(made[0], 9, 10.0)
    assert zygotes.why_none == "the zygote died (status 9)"
    zygotes.boot(11.0)
    zygotes.note_boot_failed(made[1], "Traceback\nImportError: no shop")
    zygotes.note_lost(made[1], 256, 12.0)
    assert zygotes.why_none == "ImportError: no shop"

    zygotes.boot(13.0)
    assert zygotes.why_none == "ImportError: no shop"  # until more is known
    zygotes.note_lost(made[2], 9, 14.0)
    assert zygotes.why_none == "the zygote died (status 9)"

    zygotes.boot(15.0)
    zygotes.end_overdue(75.0)
    zygotes.note_lost(made[3], 9, 75.1)
    assert zygotes.why_none == "it was not ready after 60 s"

    zygotes.boot(76.0)
    zygotes.follow("r1", 77.0)  # ends the one that boots, for newer code
    zygotes.note_lost(made[4], 9, 77.1)
    assert zygotes.why_none == "it was not ready after 60 s"


def test_why_none_serves_is_for_all_to_see_and_shows_no_password(
    zygotes: Zygotes, made: list[Any]
) -> None:
    zygotes.note_lost(made[0], 9, 10.0)
    zygotes.boot(11.0)
    zygotes.note_boot_failed(made[1], "Traceback\nValueError: postgres://shop:secret@db/shop")
    assert zygotes.why_none == "ValueError: postgres://shop:***@db/shop"


def test_a_zygote_that_is_lost_after_one_that_could_not_import_is_told_of(
    zygotes: Zygotes, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    log = SimpleNamespace(error=lambda message, **_: told.append(message))
    monkeypatch.setattr(zygotes, "_log", log)
    zygotes.note_lost(made[0], 9, 10.0)
    zygotes.boot(11.0)
    zygotes.note_boot_failed(made[1], "Traceback\nImportError: no shop")
    zygotes.note_lost(made[1], 256, 12.0)
    zygotes.boot(13.0)
    zygotes.note_lost(made[2], 9, 14.0)
    assert told == ["zygote lost", "the application can't be imported", "zygote lost"]


def lesson(zygotes: Zygotes, *modules: str, now: float) -> float:
    """Has these modules become worth learning; returns when the zygote that has them boots."""
    for module in modules:
        assert zygotes.learning.note_import(module, WORTH_S, now)
    due = zygotes.next_due()
    assert not zygotes.is_lesson_due(due - 0.001)
    assert zygotes.is_lesson_due(due)
    zygotes.learn(due)
    return due


def unfit(zygote: Any, module: str, **why: str) -> Ready:
    told = {"threads": "", "connections": "", **why}
    return replace(ready(zygote), unforkable=(Unforkable(module, **told),))


def test_what_jobs_import_is_learnt_once_it_has_cost_enough(
    zygotes: Zygotes, made: list[Any]
) -> None:
    for now in range(3):
        assert zygotes.learning.note_import("tasks", WORTH_S / 4, 10.0 + now)
    assert zygotes.next_due() > 1e9
    due = lesson(zygotes, "tasks", "mails", now=20.0)
    assert due < 21.0
    assert made[1].learnt == ("tasks", "mails")
    assert zygotes.table.serving == made[0]
    assert zygotes.note_ready(made[1], ready(made[1]), 21.0)
    assert zygotes.table.serving == made[1]
    assert zygotes.reloads.latest is None
    # Known by now; and remembered by each that is started later.
    assert zygotes.learning.note_import("tasks", 9.0, 22.0)
    assert not zygotes.is_lesson_due(1e6)
    zygotes.follow("r1", 30.0)
    assert made[2].learnt == ("tasks", "mails")


@pytest.mark.parametrize(
    "why",
    [{"threads": "reporter"}, {"connections": "10.0.0.1:5432"}, {"error": "ImportError: no x"}],
)
def test_what_is_unfit_for_forks_never_serves_and_the_rest_is_learnt_without_it(
    zygotes: Zygotes, made: list[Any], why: dict[str, str]
) -> None:
    lesson(zygotes, "tasks", "mails", now=10.0)
    assert not zygotes.note_ready(made[1], unfit(made[1], "mails", **why), 11.0)
    assert made[1].has_ended
    assert zygotes.table.serving == made[0]
    assert made[2].learnt == ("tasks",)
    assert zygotes.note_ready(made[2], ready(made[2]), 12.0)
    assert zygotes.learning.learnt == ("tasks",)
    assert not zygotes.learning.note_import("mails", 9.0, 13.0)


def test_an_explicitly_preloaded_module_with_threads_is_no_reason_against_what_is_learnt(
    zygotes: Zygotes, made: list[Any]
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    assert zygotes.note_ready(made[1], unfit(made[1], "app", threads="reporter"), 11.0)
    assert zygotes.learning.learnt == ("tasks",)


def test_a_reload_whose_code_made_a_learnt_module_unfit_is_done_without_it(
    zygotes: Zygotes, made: list[Any]
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    zygotes.note_ready(made[1], ready(made[1]), 11.0)
    zygotes.follow("r1", 20.0)
    assert not zygotes.note_ready(made[2], unfit(made[2], "tasks", error="SyntaxError"), 21.0)
    assert state(zygotes) == ("r1", "booting", "")
    assert made[3].learnt == ()
    assert zygotes.note_ready(made[3], ready(made[3]), 22.0)
    assert state(zygotes) == ("r1", "done", "")


def test_a_reload_that_is_refused_is_tried_without_what_was_learnt(
    zygotes: Zygotes, made: list[Any]
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    zygotes.note_ready(made[1], ready(made[1]), 11.0)
    zygotes.follow("r1", 20.0)
    zygotes.note_lost(made[2], 11, 21.0)
    assert state(zygotes)[1] == "refused"
    zygotes.follow("r2", 30.0)
    assert made[3].learnt == ()


@pytest.mark.parametrize("ending", ["dies", "hangs"])
def test_a_module_that_ends_or_hangs_its_zygote_is_never_tried_again(
    zygotes: Zygotes, made: list[Any], ending: str
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    if ending == "dies":
        zygotes.note_lost(made[1], 11, 11.0)
    else:
        zygotes.end_overdue(1000.0)
    assert (zygotes.table.serving, zygotes.table.following) == (made[0], None)
    assert not zygotes.learning.note_import("tasks", 9.0, 1001.0)
    assert zygotes.reloads.latest is None


def test_a_reload_ends_a_lesson_which_begins_again_after_it(
    zygotes: Zygotes, made: list[Any]
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    zygotes.follow("r1", 11.0)
    assert made[1].has_ended
    assert made[2].learnt == ()
    assert zygotes.note_ready(made[2], ready(made[2]), 12.0)
    zygotes.learn(zygotes.next_due())
    assert made[3].learnt == ("tasks",)


def test_a_zygote_that_was_lost_with_what_was_learnt_is_followed_by_one_without(
    zygotes: Zygotes, made: list[Any]
) -> None:
    lesson(zygotes, "tasks", now=10.0)
    zygotes.note_ready(made[1], ready(made[1]), 11.0)
    zygotes.note_lost(made[1], 11, 20.0)
    zygotes.boot(20.0)
    assert made[2].learnt == ()


def test_lessons_become_rarer_and_end(zygotes: Zygotes, made: list[Any]) -> None:
    now, pauses = 10.0, []
    for number in range(50):
        if not zygotes.learning.note_import(f"tasks{number}", 1.0, now):
            break
        due = zygotes.next_due()
        pauses.append(due - now)
        zygotes.learn(due)
        zygotes.note_ready(made[-1], ready(made[-1]), due + 0.5)
        now = due + 0.5
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert pauses[-1] > 3600


def test_hints_are_tried_with_the_first_boot_and_one_that_is_unfit_is_left_out(
    made: list[Any],
) -> None:
    def spawn(learnt: tuple[str, ...]) -> Any:
        made.append(Fake(100 + len(made), learnt))
        return made[-1]

    quiet: Any = Quiet()
    zygotes = Zygotes(spawner(spawn), quiet, quiet, Learning(hints=("tasks", "mails")))
    zygotes.boot(0.0)
    assert made[0].learnt == ("tasks", "mails")
    assert not zygotes.note_ready(made[0], unfit(made[0], "mails", threads="t"), 1.0)
    assert (zygotes.table.serving, made[0].has_ended, zygotes.is_ready) == (None, True, False)
    assert zygotes.table.boots.is_next_due(1.0)
    zygotes.boot(1.0)
    zygotes.note_lost(made[0], 9, 1.1)
    assert made[1].learnt == ("tasks",)
    zygotes.note_ready(made[1], ready(made[1]), 2.0)
    assert zygotes.is_ready
    assert zygotes.learning.learnt == ("tasks",)
