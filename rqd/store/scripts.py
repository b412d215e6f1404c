"""The Lua files: one a transition, put together with the shared parts that its `--@` line names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and the SHA-1 Redis knows it by."""

    name: str
    source: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """The script of this name, assembled from `lua/<name>.lua` and its parts in `lua/lib/`."""
    body = (_FOLDER / f"{name}.lua").read_text()
    parts = [
        (_FOLDER / "lib" / f"{part}.lua").read_text()
        for line in body.splitlines()
        if line.startswith("--@")
        for part in line[3:].split()
    ]
    # Comments would travel with every EVAL and into the server's script cache for nothing.
    source = "\n".join(
        line
        for text in [*parts, body]
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("--")
    )
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())
