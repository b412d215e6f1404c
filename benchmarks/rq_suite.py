"""Runs RQ's own black-box tests against rqd, with `rq` written `rqd` in their imports.

RQ's source comes from the package registry and is not part of this project: `rq_suite.txt` has only
the ids of its tests, with a reason for each that can't pass. After `bin/setup`:

    python -m benchmarks.rq_suite [--sdist rq-3.0.0.tar.gz] [--failures] [FILE ...]

Prints, for each file, how many passed, are different by design, and do not pass yet. Status 0:
every test without a reason passed; 1: some did not, and are named; 2: the tests could not be run.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.server import Server, started_server
from benchmarks.suites import CannotRun, cases_of, download, listed, report_on

_RELEASE = "rq==3.0.0"
LIST = Path(__file__).with_suffix(".txt")
_TEST_LIMIT_S = 60
_FILE_LIMIT_S = 900
_AT_ONCE = 2
_REWRITES = (
    (re.compile(r"^(\s*(?:from|import) )rq\b", re.MULTILINE), r"\1rqd"),
    (re.compile(r"""(['"])rq\."""), r"\1rqd."),
)


def unpack(sdist: Path, folder: Path) -> None:
    """Unpacks the tests into `folder`/tests. Raises CannotRun."""
    try:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise CannotRun(f"{sdist} can't be unpacked: {error}") from error
    found = list(folder.glob("rq-*/tests"))
    if len(found) != 1:
        raise CannotRun(f"{sdist} has no folder of tests")
    found[0].rename(folder / "tests")


def rewrite(folder: Path, server: Server) -> None:
    """Makes the tests import rqd, and connect to this server."""
    port = server.address[1]
    for path in sorted((folder / "tests").rglob("*.py")):
        text = path.read_text()
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
        text = text.replace("Redis()", f"Redis(port={port})")
        text = text.replace("127.0.0.1:6379", f"127.0.0.1:{port}")
        text = text.replace("{'db': dbnum}", f"{{'db': dbnum, 'port': {port}}}")
        path.write_text(with_names(text))
    names = Path(__file__).with_name("rq_names.py")
    (folder / "rq_names.py").write_text(names.read_text())


def with_names(text: str) -> str:
    """Makes imports from rqd's modules tolerate the names that are not there."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rqd":
            wanted = {one.asname or one.name: one.name for one in node.names}
            given = f"rq_names.names({node.module!r}, {wanted!r})"
            line = f"import rq_names; globals().update({given})"
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [" " * node.col_offset + line, *[""] * (last - first - 1)]
    return "\n".join(lines) + "\n"


def run_file(sdist: Path, name: str, ids: Iterable[str]) -> dict[str, str]:
    """Runs tests of a file on a server of its own; returns the failure of each, "" if it passed."""
    with started_server() as server:
        unpack(sdist, server.folder)
        rewrite(server.folder, server)
        report = server.folder / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--timeout={_TEST_LIMIT_S}", f"--junitxml={report}", "--rootdir=."]
        command += [f"tests/{one}" for one in ids]
        env = {**os.environ, "RQD_LOG_LEVEL": "error", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=server.folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=_FILE_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return dict.fromkeys(ids, f"{name} took longer than {_FILE_LIMIT_S} s")
        found = dict(outcomes(name, report)) if report.exists() else {}
        whole = _reason_of(done.stdout + done.stderr)
        return {one: found.get(one, whole) for one in ids}


def outcomes(name: str, report: Path) -> Iterator[tuple[str, str]]:
    """Yields the ids of a report in JUnit's XML, with the failure of each."""
    for class_name, test, failure in cases_of(report):
        module, _, group = class_name.partition(name.removesuffix(".py"))
        group = group.lstrip(".")
        yield "::".join(part for part in (name, group, test) if part and module), failure


def _reason_of(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("E  ")]
    return lines[-1][1:].strip() if lines else "it was not run"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rq_suite")
    parser.add_argument("--sdist", type=Path, help="RQ's source, instead of a download")
    parser.add_argument("--failures", action="store_true", help="print how each test failed")
    parser.add_argument("files", nargs="*", help="test files, such as test_job.py; all by default")
    given = parser.parse_args()
    reasons = listed(LIST)
    by_file: dict[str, list[str]] = {}
    for one in reasons:
        by_file.setdefault(one.partition("::")[0], []).append(one)
    names = given.files or list(by_file)
    if unknown := set(names) - by_file.keys():
        print(f"no test of {', '.join(sorted(unknown))} is in {LIST.name}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="rqd-rq-suite-") as folder:
        try:
            sdist = given.sdist or download(_RELEASE, Path(folder))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(lambda name: run_file(sdist, name, by_file[name]), names))
        except CannotRun as error:
            print(error, file=sys.stderr)
            return 2
    return report_on(dict(zip(names, found, strict=True)), reasons, given.failures)


if __name__ == "__main__":
    sys.exit(main())
