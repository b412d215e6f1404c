"""The Lua files: a file for each transition, assembled with the shared parts of its `--@` line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source, and the SHA-1 by which Redis knows it."""

    name: str
    source: str
    sha: str


# In a slot that is being moved, some keys are on the other node, and each command on such a key
# fails in the middle of a transition. An absent key shows the move before anything was written.
_GUARD = """
local absent = redis.pcall('EXISTS', KEYS[1] .. ':absent')
if type(absent) == 'table' then
  if not string.find(absent.err, 'non local') then return absent end
  return redis.error_reply('TRYAGAIN the slot of ' .. KEYS[1] .. ' is being moved')
end
"""


# Parts that every script uses: their functions are plain locals.
_PLAIN = ("names", "texts", "arguments", "one_job")

# Each run of a script would make a hundred functions, a third of an enqueue's cost in the server: a
# part's functions are made at the first use of any of them, or of a field of its table.
_LAZILY = """
local {modules} = {tables}
local WHEN_NEEDED = {{ __index = function(Part, name)
  setmetatable(Part, nil)
  if false then
  {parts}
  end
  return Part[name]
end }}
for _, part in ipairs({{ {modules} }}) do setmetatable(part, WHEN_NEEDED) end
"""


@cache
def load_script(name: str, is_guarded: bool = False) -> Script:
    """Returns the script of this name, assembled from `lua/<name>.lua` and its parts in `lua/lib/`.

    The definitions of `cron_runs.lua` are in the table CronRuns. A guarded script, for a cluster,
    does nothing while its keys' slot moves: TRYAGAIN.
    """
    body = lua_texts()[f"{name}.lua"]
    parts = [
        part for line in body.splitlines() if line.startswith("--@") for part in line[3:].split()
    ]
    texts = [_GUARD] if is_guarded else []
    texts += [_text(part) for part in parts if part in _PLAIN]
    texts += [_made_when_needed([part for part in parts if part not in _PLAIN]), body]
    # Comments would travel with every EVAL and into the server's script cache for nothing.
    source = "\n".join(
        line
        for text in texts
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("--")
    )
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())


@cache
def lua_texts() -> dict[str, str]:
    """Returns all files by their paths, read at once, when the first file is needed.

    A process that runs on while another rqd is installed would read the rest from the new version.
    Its arguments would not fit the new scripts, or the scripts would be gone.
    """
    return {
        path.relative_to(_FOLDER).as_posix(): path.read_text() for path in _FOLDER.rglob("*.lua")
    }


def _text(part: str) -> str:
    return lua_texts()[f"lib/{part}.lua"]


def _made_when_needed(parts: list[str]) -> str:
    if not parts:
        return ""
    modules = ["".join(word.capitalize() for word in part.split("_")) for part in parts]
    return _LAZILY.format(
        modules=", ".join(modules),
        tables=", ".join("{}" for _ in parts),
        parts="\n".join(
            f"elseif Part == {module} then\n{_text(part)}"
            for module, part in zip(modules, parts, strict=True)
        ),
    )
