"""Runs Django's own tests of its tasks against rqd, in the place of the backends it comes with.

Django's source comes from the package registry and is not part of this project: `django_suite.txt`
has only the ids of its tests, with a reason for each that can't pass. After `bin/test-django`:

    build/django/bin/python -m benchmarks.django_suite [--sdist django-6.1.3.tar.gz] [--failures]

In the tests a backend that no daemon serves stands for the dummy one, and one whose daemon runs a
task at once for the immediate one. `test_samples.py` runs each task of Django's `tasks.py`.

Prints, for each file, how many passed, are different by design, and do not pass yet. Status 0:
every test without a reason passed; 1: some did not, and are named; 2: the tests could not be run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import django

from benchmarks.processes import BenchmarkError, running, tail, wait_for
from benchmarks.server import Server, started_server
from benchmarks.suites import CannotRun, cases_of, download, listed, report_on
from rqd.client.connection import Backend

_RELEASE = "django==6.1.3"
_HERE = Path(__file__).parent
LIST = Path(__file__).with_suffix(".txt")
_LIMIT_S = 300
_REWRITES = {
    "django.tasks.backends.dummy.DummyBackend": "benchmarks.django_backends.Unserved",
    "django.tasks.backends.immediate.ImmediateBackend": "benchmarks.django_backends.Served",
    "django.tasks.backends.dummy import": "benchmarks.django_backends import Unserved as",
    "django.tasks.backends.immediate import": "benchmarks.django_backends import Served as",
}
_CONFTEST = """
import django
from django.test.utils import setup_databases, setup_test_environment
django.setup()
setup_test_environment()
setup_databases(0, False)
"""


def prepare(sdist: Path, folder: Path) -> None:
    """Puts the tests into `folder`/tasks, with rqd's backends. Raises CannotRun."""
    (folder / "tasks").mkdir()
    try:
        with tarfile.open(sdist) as archive:
            for one in archive.getmembers():
                if Path(one.name).match("django-*/tests/tasks/*.py"):
                    file = archive.extractfile(one)
                    assert file is not None
                    text = file.read().decode()
                    for old, new in _REWRITES.items():
                        text = text.replace(old, new)
                    (folder / "tasks" / Path(one.name).name).write_text(text)
    except (OSError, tarfile.TarError) as error:
        raise CannotRun(f"{sdist} can't be unpacked: {error}") from error
    if not (folder / "tasks" / "tasks.py").exists():
        raise CannotRun(f"{sdist} has no tests/tasks/tasks.py")
    (folder / "tasks" / "test_samples.py").write_text((_HERE / "django_samples.py").read_text())
    (folder / "conftest.py").write_text(_CONFTEST)


def run(server: Server) -> dict[str, dict[str, str]]:
    """Runs all tests; returns the failure of each by file, "" if it passed. Raises CannotRun."""
    folder = server.folder
    (folder / "tasks.log").touch()
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "benchmarks.django_backends",
        "DJANGO_SUITE_LOG": str(folder / "tasks.log"),
        "PYTHONPATH": f"{folder}{os.pathsep}{_HERE.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RQD_URL": server.url,
    }
    command = [sys.executable, "-m", "rqd", "start", "--queues", "default", "--workers", "2"]
    command += ["--preload", "rqd.django.preload,tasks.tasks", "--namespace", "served"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    there = Backend(None, server.url, None, "served")
    log, report = folder / "log", folder / "report.xml"
    with running(command, env | {"DJANGO_SUITE_DAEMON": "1"}, log) as daemon:
        wait_for(lambda: bool(there.views.masters()), "the daemon", 20, daemon, log)
        done = subprocess.run(
            [*pytest, f"--junitxml={report}", "tasks"],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    if not report.exists() or done.returncode > 1:
        raise CannotRun(f"pytest: {done.stdout[-2000:]}{done.stderr[-2000:]}{tail(log)}")
    found: dict[str, dict[str, str]] = {}
    for class_name, name, failure in cases_of(report):
        _, module, *group = class_name.split(".")
        test = "::".join([f"{module}.py", *group, name])
        found.setdefault(f"{module}.py", {})[test] = failure
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.django_suite")
    parser.add_argument("--sdist", type=Path, help="Django's source, instead of a download")
    parser.add_argument("--failures", action="store_true", help="print how each test failed")
    given = parser.parse_args()
    try:
        if django.VERSION < (6, 1):
            raise CannotRun("needs Django 6.1: bin/test-django puts it into build/django")
        with started_server() as server:
            prepare(given.sdist or download(_RELEASE, server.folder), server.folder)
            found = run(server)
    except (CannotRun, BenchmarkError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    reasons = listed(LIST)
    ran = {one: why for tests in found.values() for one, why in tests.items()}
    if difference := ran.keys() ^ reasons.keys():
        print(f"{LIST.name} and the tests differ in:", *sorted(difference), sep="\n")
        return 2
    return report_on(found, reasons, given.failures)


if __name__ == "__main__":
    sys.exit(main())
