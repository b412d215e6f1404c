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


# In a slot that is being moved, some keys are on the other node, and each command on one fails:
# in the middle of a transition. A key that is nowhere tells, before anything was written.
_GUARD = """
local absent = redis.pcall('EXISTS', KEYS[1] .. ':absent')
if type(absent) == 'table' then
  if not string.find(absent.err, 'non local') then return absent end
  return redis.error_reply('TRYAGAIN the slot of ' .. KEYS[1] .. ' is being moved')
end
"""


@cache
def load_script(name: str, is_guarded: bool = False) -> Script:
    """The script of this name, assembled from `lua/<name>.lua` and its parts in `lua/lib/`.

    A guarded one, for a cluster, does nothing while its keys' slot moves: TRYAGAIN.
    """
    body = (_FOLDER / f"{name}.lua").read_text()
    parts = [
        (_FOLDER / "lib" / f"{part}.lua").read_text()
        for line in body.splitlines()
        if line.startswith("--@")
        for part in line[3:].split()
    ]
    guard = [_GUARD] if is_guarded else []
    # Comments would travel with every EVAL and into the server's script cache for nothing.
    source = "\n".join(
        line
        for text in [*guard, *parts, body]
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("--")
    )
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())
