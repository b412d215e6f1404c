"""The words for how an attempt ended."""

import signal

import pytest

from rqd.model.outcome import (
    AskedAgain,
    Crashed,
    Lost,
    Outcome,
    OutOfMemory,
    Parked,
    Raised,
    Refused,
    Released,
    Stopped,
    Succeeded,
    TimedOut,
    cause,
    signal_name,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Succeeded(b""), "succeeded"),
        (Raised("builtins.ValueError", "no\nmore", ""), "raised ValueError: no"),
        (Raised("app.Broken", "", ""), "raised app.Broken"),
        (Raised("app.Broken", "\n  odd", ""), "raised app.Broken: odd"),
        (AskedAgain(None), "asked to run again"),
        (AskedAgain(3, message="no file\n"), "asked to run again, 3 times at most: no file"),
        (TimedOut(180, killed=False), "timed out after 180 s"),
        (TimedOut(0.5, killed=True), "timed out after 0.5 s, killed as it did not stop"),
        (TimedOut(60, killed=False, is_cpu=True), "timed out after 60 s of cpu time"),
        (OutOfMemory(812 * MIB, 512 * MIB), "out of memory: 812 MiB of 512 MiB"),
        (OutOfMemory(512 * MIB + 1, 512 * MIB), "out of memory: 513 MiB of 512 MiB"),
        (Crashed(signal=signal.SIGSEGV), "crashed: SIGSEGV"),
        (Crashed(signal=11, core_dumped=True), "crashed: SIGSEGV (core dumped)"),
        (Crashed(exit_status=3), "crashed: exit status 3"),
        (Crashed(), "crashed: exit status 0"),
        (Released("the daemon stops"), "released: the daemon stops"),
        (Lost("its zygote died"), "lost as its zygote died"),
        (Refused("not signed"), "refused: not signed"),
        (Parked("no key", 30), "parked: no key"),
        (Stopped("ops@host"), "stopped by ops@host"),
        (Stopped("ops@host", killed=True), "stopped by ops@host, killed"),
    ],
)
def test_a_cause_is_one_line(outcome: Outcome, words: str) -> None:
    assert cause(outcome) == words


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40"), (99, "signal 99")])
def test_a_signal_without_a_name_is_called_by_its_number(number: int, name: str) -> None:
    assert signal_name(number) == name
