"""A short campaign of all groups: the long one is run by hand (docs/reliability.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import ROOT
from tests.torture.faults import GROUPS

SEED = 20261124


# Half a minute, with the faults at half their usual distance; the whole minute with RQD_FUZZ.
LENGTH = ("--minutes", "1") if "RQD_FUZZ" in os.environ else ("--minutes", "0.5", "--gaps", "0.5")


# The faults; then the drain, which a busy machine may make long.
@pytest.mark.timeout(420)
def test_a_while_of_all_faults_loses_nothing_and_doubles_nothing_unexplained(
    tmp_path: Path,
) -> None:
    options = ("--seed", str(SEED), "--faults", "all", *LENGTH, "--jobs-rate", "40")
    print("bin/torture", *options)

    ran = run_torture(*options, "--out", str(tmp_path / "histories"))

    assert ran.stdout, f"status {ran.returncode}: {ran.stderr}"
    report = json.loads(ran.stdout)
    assert report["wrong"] == {}
    assert report["valid"]
    assert ran.returncode == 0
    assert {row["group"] for row in report["rows"] if row["injected"]} == set(GROUPS)
    assert report["faults"] >= 40
    assert report["jobs"] >= 600


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--faults", "weather"), "no group 'weather'"),
        (("--out", str(ROOT)), "is not empty"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: tuple[str, ...], told: str) -> None:
    ran = run_torture(*arguments)

    assert ran.returncode == 64
    assert told in ran.stdout
    assert ran.stdout.count("\n") == 1


def run_torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.torture", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)
