"""The `rqd` command in a process of its own, with a hard limit."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.cli.stem import LARGEST_BYTES

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 20.0
_one_stem = threading.Lock()


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

    It is a fork of a process that has the command imported (tests/cli/stem.py); from the start
    where `env` says something to Python itself.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RQD_URL", "REDIS_URL", "RQD_NAMESPACE")
    }
    whole = {**kept, **({"RQD_URL": url} if url is not None else {}), **(env or {})}
    is_for_python = any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env or ())
    run = _from_the_start if is_for_python else _from_the_stem
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
    asked = json.dumps(
        {"arguments": arguments, "env": dict(env), "folder": str(folder), "limit_s": LIMIT_S}
    ).encode()
    assert len(asked) < LARGEST_BYTES
    read, write = os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(read) as told:
        try:
            with _one_stem:
                door, _ = _stem()
            socket.send_fds(door, [asked], [out.fileno(), err.fileno(), write])
        finally:
            os.close(write)
        status = told.read()  # the end comes with the command's, or with its watcher's
        out.seek(0)
        err.seek(0)
        return Ran(int(status), out.read().decode(), err.read().decode())


@cache
def _stem() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The door to this run's stem, which ends when pytest has; and its process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-m", "tests.cli.stem", str(its.fileno())]
        stem = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()]
        )
    return ours, stem
