"""What `rqd ps` and `rqd top` make of running jobs, without a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rqd.cli.activity import screen
from rqd.cli.output import duration
from rqd.client.activity import Activity, ordered

ONE = Activity(
    "one", "app.f", "low", "m:1", "web1", 11, "2026-01-01T00:00:00+00:00", 5.0, 1.0, 30 * 2**20,
    None, "",
)  # fmt: skip
TWO = replace(ONE, id="two", queue="high", host="web2", for_s=70.0, cpu_percent=None)
THREE = replace(ONE, id="three", queue="mid", for_s=6.0, cpu_percent=99.0, memory_bytes=None)
ALL = [ONE, TWO, THREE]


@pytest.mark.parametrize(
    ("by", "ids"),
    [
        ("time", ["two", "three", "one"]),
        ("cpu", ["three", "one", "two"]),
        ("memory", ["two", "one", "three"]),
        ("queue", ["two", "one", "three"]),
    ],
)
def test_jobs_are_ordered(by: str, ids: list[str]) -> None:
    assert [one.id for one in ordered(ALL, by)] == ids


def test_a_screen_has_a_title_a_table_and_the_keys() -> None:
    lines = screen(ALL, "cpu", 200, 10)
    assert len(lines) == 10
    assert lines[0] == "rqd top: 3 jobs on 2 hosts, by cpu"
    assert [line.split()[0] for line in lines[1:5]] == ["job", "three", "one", "two"]
    assert lines[3].split()[-4:] == ["s", "1", "30.0", "-"]
    assert lines[-1].endswith("q quit")
    assert screen(ALL, "time", 200, 10, "Redis is away")[-1] == "Redis is away"


def test_a_job_whose_worker_has_no_process_yet_shows_no_pid() -> None:
    (row,) = [line for line in screen([replace(ONE, pid=0)], "time", 200, 10) if "app.f" in line]
    assert row.split()[5] == "-"


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (3, 2), (20, 3), (40, 4), (79, 24)])
def test_a_screen_is_never_larger_than_the_terminal(size: tuple[int, int]) -> None:
    width, height = size
    lines = screen(ALL * 20, "time", width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_a_narrow_screen_leaves_columns_out_and_says_which() -> None:
    named = [replace(one, id=f"{one.id:-<36}", host="web1.example.com") for one in ALL]
    lines = screen(named, "cpu", 79, 10)
    assert lines[1].split() == ["job", "function", "worker", "for", "cpu", "%", "memory", "MiB"]
    assert lines[3].startswith(f"{'one':-<36}  app.f")
    assert lines[3].split()[-2:] == ["1", "30.0"]
    assert lines[-1].endswith("q quit  cut: queue, host, pid, progress")
    heads = screen(named, "cpu", 50, 10)[1]
    assert heads.split()[-4:] == ["cpu", "%", "memory", "MiB"]


def test_nobody_steers_the_terminal_by_a_jobs_name() -> None:
    evil = replace(ONE, function="a\x1b[2J\nb", progress=0.5, progress_message="\x07")
    text = "".join(screen([evil], "time", 200, 5))
    assert text.isprintable()
    assert "50%" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (62, "1:02"), (11_045, "3:04:05"), (183_840, "2d 03:04")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
