"""The `rqd` command in a process of its own, with a hard limit."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.forks import Fork, is_for_python

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 20.0


@dataclass(frozen=True)
class Ran:
    """How it ended and what it said."""

    status: int
    out: str
    err: str


def rqd(
    *arguments: str | bytes,
    url: str | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Ran:
    """Runs `rqd` with these arguments; nothing of the environment tells it of a Redis but `url`.

    It is a fork of a process that has the command imported (tests/fork_server.py); from the start
    where `env` says something to Python itself.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RQD_URL", "REDIS_URL", "RQD_NAMESPACE")
    }
    whole = {**kept, **({"RQD_URL": url} if url is not None else {}), **(env or {})}
    run = _from_the_start if is_for_python(env or {}) else _from_the_stem
    ran = run([os.fsdecode(one) for one in arguments], whole, folder)
    assert "Traceback" not in ran.err, ran
    return ran


def _from_the_start(arguments: list[str], env: Mapping[str, str], folder: Path) -> Ran:
    ended = subprocess.run(
        [sys.executable, "-m", "rqd", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
    )
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def _from_the_stem(arguments: list[str], env: Mapping[str, str], folder: Path) -> Ran:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        fork = Fork(arguments, env, folder, out=out.fileno(), err=err.fileno(), limit_s=LIMIT_S)
        status = fork.wait()
        out.seek(0)
        err.seek(0)
        return Ran(status, out.read().decode(), err.read().decode())
