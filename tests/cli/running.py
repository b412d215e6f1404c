"""The `rqd` command in a process of its own, with a hard limit."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    """Runs `rqd` with these arguments; nothing of the environment tells it of a Redis but `url`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RQD_URL", "REDIS_URL", "RQD_NAMESPACE")
    }
    ended = subprocess.run(
        [sys.executable, "-m", "rqd", *arguments],
        cwd=folder,
        env={**kept, **({"RQD_URL": url} if url is not None else {}), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
    )
    ran = Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in ran.err, ran
    return ran
