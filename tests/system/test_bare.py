"""bin/test on a machine that has Python and little else: what it installs and leaves out."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.daemons import ROOT
from tests.lacking import needs_root

PROGRAMS = (
    *("redis-server", "valkey-server", "systemd-analyze", "journalctl", "openssl", "ip"),
    *("prometheus", "promtool"),
)
POLICY = Path("/usr/sbin/policy-rc.d")
# What runs these programs; the rest of the suite asks for none of them.
USERS = (
    "tests/topology/test_tls.py",
    "tests/topology/test_cut_off.py",
    "tests/client/test_durability.py",
    "tests/process/test_embedded.py",
    "tests/store/test_connections.py",
    "tests/system/test_journal.py",
    "tests/system/test_monitoring.py",
    "tests/system/test_units.py",
)


def bare_path(folder: Path, *hidden: str) -> str:
    """Returns a PATH with all that is on the real one but these programs."""
    folder.mkdir()
    for home in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(home).glob("*"):
            if program.name not in hidden:
                link = folder / program.name
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(folder)


def run(path: str, *command: str) -> str:
    """Runs a command with this PATH, in good order; returns what it printed."""
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture
def stub_path(tmp_path: Path) -> str:
    """Returns a PATH without the programs, whose apt-get has nothing either.

    It writes down what it was asked for, and what Debian's policy for services said then.
    """
    path = bare_path(tmp_path / "bin", *PROGRAMS, "apt-get")
    apt_get = tmp_path / "bin" / "apt-get"
    apt_get.write_text(
        f'#!/bin/sh\n{POLICY}\necho "$? $*" >>{tmp_path}/asked\necho no network\nexit 100\n'
    )
    apt_get.chmod(0o755)
    return path


@pytest.mark.timeout(260)
def test_the_suite_passes_without_these_programs_and_says_in_a_few_lines_what_it_left_out(
    tmp_path: Path,
) -> None:
    path = bare_path(tmp_path / "bin", *PROGRAMS, "apt-get")
    printed = run(path, "bin/test", *USERS)

    assert re.search(r"programs: no .*redis-server.* their tests are skipped", printed), printed
    left_out = re.findall(r"^SKIPPED \[\d+\] (.*)$", printed, re.MULTILINE)
    assert "tests: needs redis-server on PATH: a second kind of server, and TLS" in left_out
    assert "tests: needs systemd's tools: systemd-analyze, journald" in left_out
    assert "tests: needs prometheus and promtool on PATH" in left_out
    assert len(left_out) <= 6, left_out


def test_what_apt_does_not_have_is_named_and_no_service_may_start_meanwhile(
    stub_path: str, tmp_path: Path
) -> None:
    needs_root()
    had_policy = POLICY.exists()
    printed = run(stub_path, "bin/test-programs")

    assert "programs: apt has no redis-server: its tests are skipped" in printed
    asked = (tmp_path / "asked").read_text().splitlines()
    installs = [line for line in asked if " install " in line]
    assert len(installs) > 1
    assert all("--no-install-recommends" in line for line in installs)
    if not had_policy:
        assert all(line.startswith("101 ") for line in asked), asked
    assert POLICY.exists() == had_policy


def test_where_all_programs_are_there_nothing_is_installed(stub_path: str, tmp_path: Path) -> None:
    for program in (*PROGRAMS, "ps"):
        there = tmp_path / "bin" / program
        there.unlink(missing_ok=True)
        there.write_text("#!/bin/sh\n")
        there.chmod(0o755)
    assert run(stub_path, "bin/test-programs") == ""
    assert not (tmp_path / "asked").exists()
