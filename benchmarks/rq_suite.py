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
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.server import Server, started_server

_RELEASE = "rq==3.0.0"
_LIST = Path(__file__).with_suffix(".txt")
_TEST_LIMIT_S = 60
_FILE_LIMIT_S = 900
_AT_ONCE = 2
_REWRITES = (
    (re.compile(r"^(\s*(?:from|import) )rq\b", re.MULTILINE), r"\1rqd"),
    (re.compile(r"""(['"])rq\."""), r"\1rqd."),
)
KINDS = ("passed", "by design", "not yet")


class CannotRun(Exception):
    """RQ's source can't be had."""


def listed_lines() -> list[str]:
    """Returns the lines of the list: an id, and behind a space the reason if it can't pass."""
    lines = _LIST.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def listed() -> dict[str, str]:
    """Returns the reason for each id of the list; it is empty for a test that passes."""
    parts = (line.partition(" ") for line in listed_lines())
    return {name: reason.strip() for name, _, reason in parts}


def download(folder: Path) -> Path:
    """Has pip download RQ's source. Raises CannotRun."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), _RELEASE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("rq-*.tar.gz"))
    if done.returncode or not found:
        raise CannotRun(f"pip could not download {_RELEASE}: {done.stderr.strip()[-500:]}")
    return found[0]


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
    for case in ElementTree.parse(report).iter("testcase"):
        module, _, group = case.get("classname", "").partition(name.removesuffix(".py"))
        group = group.lstrip(".")
        test = "::".join(part for part in (name, group, case.get("name", "")) if part and module)
        bad = [one for kind in ("failure", "error", "skipped") for one in case.iter(kind)]
        yield test, (bad[0].get("message") or "failed").splitlines()[0] if bad else ""


def _reason_of(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("E  ")]
    return lines[-1][1:].strip() if lines else "it was not run"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rq_suite")
    parser.add_argument("--sdist", type=Path, help="RQ's source, instead of a download")
    parser.add_argument("--failures", action="store_true", help="print how each test failed")
    parser.add_argument("files", nargs="*", help="test files, such as test_job.py; all by default")
    given = parser.parse_args()
    reasons = listed()
    by_file: dict[str, list[str]] = {}
    for one in reasons:
        by_file.setdefault(one.partition("::")[0], []).append(one)
    names = given.files or list(by_file)
    if unknown := set(names) - by_file.keys():
        print(f"no test of {', '.join(sorted(unknown))} is in {_LIST.name}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="rqd-rq-suite-") as folder:
        try:
            sdist = given.sdist or download(Path(folder))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(lambda name: run_file(sdist, name, by_file[name]), names))
        except CannotRun as error:
            print(error, file=sys.stderr)
            return 2
    return report_on(dict(zip(names, found, strict=True)), reasons, given.failures)


def report_on(found: dict[str, dict[str, str]], reasons: dict[str, str], says_why: bool) -> int:
    """Prints a line for each file, the sum, and the tests that should have passed."""
    total: Counter[str] = Counter()
    surprises = []
    print(f"{'':34}" + "".join(f"{kind:>12}" for kind in KINDS))
    for name, tests in found.items():
        counts: Counter[str] = Counter()
        for test, failure in tests.items():
            reason = reasons[test]
            kind = "passed"
            if failure:
                kind = "by design" if reason.startswith("design:") else "not yet"
            counts[kind] += 1
            if failure and not reason:
                surprises.append(f"{test}: {failure}")
            elif failure and says_why:
                print(f"  {test}: {failure}")
        print(f"{name:34}" + "".join(f"{counts[kind]:>12}" for kind in KINDS))
        total += counts
    print(f"{f'of {total.total()}':34}" + "".join(f"{total[kind]:>12}" for kind in KINDS))
    for line in surprises:
        print(line)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
