"""A server that is no Redis: a line for each command, a bound for what it sends."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import ROOT
from tests.impostor import ANSWERS, Impostor

COMMANDS = [
    "info", "jobs", "workers", "job x", "job x stop", "enqueue tasks.f", "queue q", "queue q empty",
    "cron", "cron add a tasks.f --interval 5", "limits", "retry x", "retry --all", "reload", "stop",
    "pause --all", "healthcheck", "doctor", "start --burst", "logs x",
]  # fmt: skip
# Enough for every command, and for a reply of the largest size; not for what has no end.
MEMORY_BYTES = 3 * 2**30
QUICK = [name for name, (_, more) in ANSWERS.items() if not more and name != "half"]


def run(command: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rqd", *command.split(), "--url", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        errors="replace",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
    )


def is_told(ran: subprocess.CompletedProcess[str]) -> bool:
    return "Traceback" not in ran.stderr and len(ran.stderr.splitlines()) <= 1 + (
        "start" in ran.args
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_a_traceback_whatever_is_answered(command: str, tmp_path: Path) -> None:
    wrong = {}
    with Impostor(tmp_path / "s", "ok") as impostor:
        for impostor.answer in QUICK:
            ran = run(command, impostor.url)
            if not is_told(ran):
                wrong[impostor.answer] = ran.stderr[-300:]
    assert wrong == {}


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name not in QUICK])
def test_what_has_no_end_is_given_up(answer: str, tmp_path: Path) -> None:
    with Impostor(tmp_path / "s", answer) as impostor:
        ran = run("info", impostor.url)
    assert ran.returncode == 69, ran
    assert is_told(ran), ran
