"""Tables for people, plain in a pipe."""

import click
import pytest

from rqd.cli.output import ago, echo_field, echo_table, plain, say


def test_a_table_is_aligned_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table("Queues", ("queue", "ready"), [("low", 5), ("a longer one", 12_345)])

    assert capsys.readouterr().out.splitlines() == [
        "Queues",
        "  queue          ready",
        "  low                5",
        "  a longer one  12,345",
    ]


def test_what_is_empty_shows_as_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table("Workers", ("worker", "job", "pid"), [("m:1", "", None)])

    assert capsys.readouterr().out.splitlines()[2].split() == ["m:1", "-", "-"]


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table("Masters", ("master",), [])

    assert capsys.readouterr().out == "Masters\n  none\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119, "1:59"), (7300, "2:01:40"), (400_000, "4d 15:06"), (-5, "0 s")],
)
def test_how_longago_in_a_unit_one_can_read(seconds: int, shown: str) -> None:
    assert ago("1970-01-02T00:00:00+00:00", (86_400 + seconds) * 1_000_000, "") == shown


def test_what_is_shown_steers_no_terminal() -> None:
    assert plain("a\x1b[31mb\r\x07\n\tüß") == "a\\x1b[31mb\\r\\x07\n\tüß"


def test_no_line_of_a_value_looks_like_another_field(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "may\nstatus:       finished\r\n\u2028id: b\x0b\u202e\n\nend"

    echo_field("description", forged)
    echo_field("cause", "raised\nran: 1 s", "  ")
    say("web\x1b[2J\n\u2029rqd: all is well")

    assert capsys.readouterr().out.splitlines() == [
        "description:  may",
        "              status:       finished\\r",
        "              \\u2028id: b\\x0b\\u202e",
        "",
        "              end",
        "  cause:        raised",
        "                ran: 1 s",
        "web\\x1b[2J\\n\\u2029rqd: all is well",
    ]


def test_what_says_a_state_is_coloured_but_for_a_heads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    echo_table("Queues", ("state", "failed"), [("failed", 0)])

    red = click.style("failed", fg="red")
    _, heads, row = capsys.readouterr().out.splitlines()
    assert red not in heads
    assert red in row


def test_a_narrow_terminal_is_shown_less_and_no_line_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = ("worker", "pid", "function", "done", "last error")
    rows = [("m:1", 7, "shop.tasks.send_reminders", 3, "died by SIGKILL"), ("m:2", 8, "f", 0, "")]
    monkeypatch.setenv("COLUMNS", "44")
    echo_table("Workers", heads, rows, ("done", "last error"))
    assert "died by SIGKILL" in capsys.readouterr().out  # whole in a pipe

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    echo_table("Workers", heads, rows, ("done", "last error"))
    assert click.unstyle(capsys.readouterr().out).splitlines() == [
        "Workers",
        "  worker  pid  function",
        "  m:1       7  shop.tasks.send_reminders",
        "  m:2       8  f",
        "  (too narrow for done, last error)",
    ]

    monkeypatch.setenv("COLUMNS", "30")
    echo_table("Workers", heads, rows, ("done", "last error"))
    assert (
        click.unstyle(capsys.readouterr().out).splitlines()[2] == "  m:1       7  shop.tasks.sen…"
    )


def test_a_table_that_wraps_goes_on_below_and_loses_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("ok", "clock", ""), ("warning", "no append-only file", "CONFIG SET appendonly yes")]
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    echo_table("Findings", ("", "seen", "to do"), rows, wraps=True)
    assert click.unstyle(capsys.readouterr().out).splitlines() == [
        "Findings",
        "           seen           to do",
        "  ok       clock          -",
        "  warning  no             CONFIG SET",
        "           append-only    appendonly yes",
        "           file",
    ]
