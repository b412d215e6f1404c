"""What the kernel's counters say of a death by SIGKILL, and of whose memory it was."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from rqd.daemon.host.cgroups import GroupLimits, OomCounter, SlotGroup, counters, explain, own_group
from rqd.daemon.workers.attempt import Attempt
from rqd.model.outcome import Crashed, Outcome, OutOfMemory, Report, Usage, cause
from rqd.model.records import Claim
from rqd.model.resources import ResourceLimits

CLAIM = Claim("id", "7:n", 1, "q", 1, "f", b"", "pickle", 60, 0, 0, ())
MIB = 1024 * 1024
KILLED = Report(Crashed(signal=signal.SIGKILL), Usage(peak_memory_bytes=40 * MIB))


class Group(SlotGroup):
    """A control group made of plain files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "place", frozenset(("memory", "pids")))

    def count(self, **events: int) -> None:
        text = "".join(f"{name} {number}\n" for name, number in events.items())
        (self.folder / "memory.events").write_text(text)


def a_run(verdict: Outcome | None = None) -> Attempt:
    return Attempt(CLAIM, 1, limits=ResourceLimits(64 * MIB), verdict=verdict)


def counter(path: Path, *, is_own: bool = True, kills: int = 0) -> OomCounter:
    path.write_text(f"oom 7\noom_kill {kills}\n")
    made = OomCounter((path, is_own))
    made.sample(0.0)
    return made


def test_a_kill_at_the_places_own_limit_is_out_of_that_memory(tmp_path: Path) -> None:
    group, nothing = Group(tmp_path), counter(tmp_path / "events")
    group.count(oom=1, oom_kill=1)
    (outcome,) = [explain(a_run(), KILLED, group, nothing, 1.0).outcome]

    assert outcome == OutOfMemory(64 * MIB, 64 * MIB, by_kernel=True)
    assert cause(outcome) == "out of memory: 64 MiB of 64 MiB, killed by the kernel"
    # It is said of this death, and not of the next.
    assert explain(a_run(), KILLED, group, nothing, 1.0) == KILLED


def test_a_kill_because_others_had_no_memory_left_is_not_at_the_jobs_limit(tmp_path: Path) -> None:
    group = Group(tmp_path)
    group.count(oom=0, oom_kill=1)
    outcome = explain(a_run(), KILLED, group, counter(tmp_path / "events"), 1.0).outcome

    assert outcome == OutOfMemory(40 * MIB, None, by_kernel=True)
    assert cause(outcome).startswith("out of memory: killed by the kernel, as the host or")


@pytest.mark.parametrize("is_own", [True, False])
def test_without_groups_a_counter_that_has_just_risen_tells(tmp_path: Path, is_own: bool) -> None:
    path = tmp_path / "events"
    counted = counter(path, is_own=is_own, kills=3)
    assert explain(a_run(), KILLED, None, counted, 1.0) == KILLED
    path.write_text("oom_kill 4\n")
    counted.sample(1.5)  # it may be looked at between the kill and the report

    outcome = explain(a_run(), KILLED, None, counted, 2.0).outcome
    if is_own:
        assert outcome == OutOfMemory(40 * MIB, None, by_kernel=True)
    else:
        # Of all the host's processes: it may have been another.
        assert isinstance(outcome, Crashed)
        assert cause(outcome).startswith("crashed: SIGKILL, perhaps by the kernel")
    for later in (4.0, 6.0, 8.0, 10.0):
        counted.sample(later)
    assert explain(a_run(), KILLED, None, counted, 11.0) == KILLED


def test_other_deaths_and_kills_of_the_masters_own_are_left_as_they_are(tmp_path: Path) -> None:
    group = Group(tmp_path)
    nothing = counter(tmp_path / "events")
    ours = replace(KILLED, outcome=OutOfMemory(70 * MIB, 64 * MIB))
    for kills, (attempt, report) in enumerate(
        (
            (a_run(), Report(Crashed(signal=signal.SIGSEGV))),
            (a_run(KILLED.outcome), KILLED),  # somebody asked for it
            (a_run(ours.outcome), ours),
        )
    ):
        group.count(oom=kills + 1, oom_kill=kills + 1)
        assert explain(attempt, report, group, nothing, 1.0) == report


def test_a_limit_is_written_with_some_room_and_only_where_it_changes(tmp_path: Path) -> None:
    group = Group(tmp_path)
    path = group.folder / "memory.max"
    group.limit_memory(512 * MIB)
    assert int(path.read_text()) == (512 + 16 + 16) * MIB
    path.write_text("touched")
    group.limit_memory(512 * MIB)
    assert path.read_text() == "touched"
    group.limit_memory(None)
    assert path.read_text() == "max"
    group.limit_processes(5)
    assert (group.folder / "pids.max").read_text() == "5"


def test_what_is_not_limited_takes_no_controller() -> None:
    assert not GroupLimits()
    assert GroupLimits(1).controllers == {"memory"}
    assert GroupLimits(None, 1).controllers == {"pids"}


def test_counters_that_can_not_be_read_are_none(tmp_path: Path) -> None:
    assert counters(tmp_path / "missing") == {}
    (tmp_path / "odd").write_text("a b c\n")
    assert counters(tmp_path / "odd") == {}
    assert "oom_kill" in counters(Path("/proc/vmstat"))
    assert own_group("no such controller") is None
