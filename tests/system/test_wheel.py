"""The wheel in an environment that has what it asks for, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import httpx2
import pytest
from packaging.requirements import Requirement

from tests.daemons import ROOT
from tests.processes import bound_to_pytest

BUILD_LIMIT_S = 50.0
RUN_LIMIT_S = 20.0
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *build],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    (built,) = folder.glob("rqd-*.whl")
    return built


class Environment:
    """A virtual environment with the wheel and what it depends on, copied from the tests' own."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.programs = folder / "bin"
        self._packages = next(folder.glob("lib/python*/site-packages"))
        install = ("install", "--no-index", "--no-deps", "--no-compile", str(wheel))
        subprocess.run(
            [sys.executable, "-m", "pip", "--quiet", "--python", str(self.python), *install],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=RUN_LIMIT_S,
        )
        installed = next(self._packages.glob("rqd-*.dist-info"))
        for name in sorted(needed(Distribution.at(installed), set(extras))):
            self._copy(distribution(name))

    def _copy(self, package: Distribution) -> None:
        for file in package.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = self._packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.programs / "rqd"), *arguments]


def needed(package: Distribution, extras: set[str]) -> set[str]:
    """Returns the names of the distributions that a package with these extras requires, in all."""
    found: set[str] = set()
    todo = [(package, extras)]
    while todo:
        package, extras = todo.pop()
        for line in package.requires or ():
            wanted = Requirement(line)
            if wanted.marker and not any(
                wanted.marker.evaluate({"extra": extra}) for extra in {"", *extras}
            ):
                continue
            if wanted.name == "rqd":  # one extra asks for another
                todo.append((package, wanted.extras))
            elif wanted.name not in found:
                found.add(wanted.name)
                todo.append((distribution(wanted.name), wanted.extras))
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment without any extra."""
    return Environment(tmp_path_factory.mktemp("bare"), wheel)


@pytest.fixture(scope="module")
def with_web(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the extra `web`."""
    return Environment(tmp_path_factory.mktemp("web"), wheel, "web")


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "rqd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as packed:
        shipped = {name for name in packed.namelist() if ".dist-info/" not in name}

    assert shipped == ours
    assert {"rqd/py.typed", "rqd/web/static/rqd.css", "rqd/store/lua/enqueue.lua"} <= shipped


@pytest.mark.parametrize(
    ("command", "need", "extra"),
    [
        ("web", "the dashboard needs uvicorn", "web"),
        ("api-token shop --queue mail --function shop.mail", "the HTTP API needs starlette", "web"),
        ("metrics", "metrics need prometheus_client", "prometheus"),
    ],
)
def test_a_command_whose_extra_is_missing_names_it_in_one_line(
    bare: Environment, tmp_path: Path, command: str, need: str, extra: str
) -> None:
    ran = subprocess.run(
        bare.command(*command.split()),
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
    )

    assert (ran.returncode, ran.stdout) == (os.EX_USAGE, "")
    assert ran.stderr == f"rqd: {need}, which is not installed: pip install 'rqd[{extra}]'\n"


def test_with_the_extra_the_dashboard_is_served_with_its_files(
    with_web: Environment, tmp_path: Path, redis_url: str
) -> None:
    with serving(with_web, tmp_path, redis_url) as client:
        page = client.get("/")
        assert page.status_code == 200
        files = re.findall(r'(?:href|src)="(/static/[^"?]+)', page.text)
        assert {file.rpartition(".")[2] for file in files} >= {"css", "js"}
        for file in files:
            answer = client.get(file)
            assert answer.status_code == 200, file
            assert answer.content == (ROOT / "rqd" / "web" / file[1:]).read_bytes(), file


@contextmanager
def serving(environment: Environment, folder: Path, url: str) -> Iterator[httpx2.Client]:
    """Serves the dashboard inside the block, for this client."""
    web = subprocess.Popen(
        environment.command("web", "--port", "0", "--url", url),
        cwd=folder,
        env={"HOME": str(folder), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=bound_to_pytest(RUN_LIMIT_S),
    )
    assert web.stdout is not None
    try:
        found = re.match(r"dashboard: (http://\S+) ", web.stdout.readline())
        assert found
        with httpx2.Client(base_url=found[1]) as client:
            yield client
    finally:
        web.kill()
        web.communicate()
