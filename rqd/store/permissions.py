"""The commands and keys that rqd needs of Redis: for an ACL user, and for a master that starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import redis

from rqd.model.errors import ServerUnavailableError
from rqd.store.bridge import STOP_CHANNEL
from rqd.store.keys import Keys
from rqd.store.scripts import lua_texts
from rqd.store.urls import read_url

# Commands that clients, masters and the command line send directly; the rest is in the scripts.
_DIRECT = {
    *("eval", "evalsha", "time", "multi", "exec"),
    *("get", "getrange", "set", "hget", "hgetall", "xread", "xrevrange"),
    *("scard", "smembers", "zadd", "zcard", "zcount", "zrange", "zrangebyscore"),
    *("zrank", "zrevrange", "zrevrangebyscore", "zscore", "zrem", "bzpopmin"),
}
_IN_SCRIPT = re.compile(r"redis\.p?call\(\s*'(\w+)'")

# A server before 7.0 has no such check.
_MISSING = """
local missing = {}
if redis.acl_check_cmd then
  for i = 2, #ARGV do
    if not redis.acl_check_cmd(ARGV[i], ARGV[1]) then missing[#missing + 1] = ARGV[i] end
  end
end
return missing
"""


@cache
def commands_in_scripts() -> frozenset[str]:
    """Returns the commands in the Lua files: a user's permissions apply to them, too."""
    found = {"exists"}  # the command of a cluster's guard
    for path, text in lua_texts().items():
        if not path.startswith("bridge/"):  # a bridge's user has more rights
            found.update(name.lower() for name in _IN_SCRIPT.findall(text))
    return frozenset(found)


def commands_of_bridge() -> frozenset[str]:
    """Returns the commands that a bridge from RQ needs besides, on RQ's keys, too."""
    texts = [text for path, text in lua_texts().items() if path.startswith("bridge/")]
    found = {name.lower() for text in texts for name in _IN_SCRIPT.findall(text)}
    return frozenset(found | {"hmget", "hgetall", "pttl"})


def acl_lines(
    user: str, namespace: str, url: str, more: Iterable[str] = (), *, has_bridge: bool = False
) -> list[tuple[str, str]]:
    """Returns (where, line): the ACL SETUSER lines for a user with just the rights rqd needs.

    PASSWORD in them is to be replaced; `more` are further commands. With `has_bridge` the user may
    run a bridge from RQ.
    """
    target = read_url(url)
    needed = {*_DIRECT, *commands_in_scripts(), *more}
    if has_bridge:
        needed |= {*commands_of_bridge(), "subscribe"}
    if target.kind == "cluster":
        needed |= {"cluster|slots"}
    elif _has_database(target.plain):
        needed |= {"select"}
    allowed = " ".join(f"+{name}" for name in sorted(needed))
    keys = f"~{Keys(namespace).prefix}*" + (" ~rq:*" if has_bridge else "")
    channels = "resetchannels" + (f" &{STOP_CHANNEL}" if has_bridge else "")
    head = f"ACL SETUSER {user} reset on >PASSWORD"
    lines = [("on each Redis server", f"{head} {keys} {channels} -@all {allowed}")]
    if target.kind == "sentinel":
        asked = "+sentinel|get-master-addr-by-name"
        lines.append(("on each sentinel", f"{head} resetchannels -@all {asked}"))
    return lines


def check_permissions(connection: redis.Redis, keys: Keys) -> None:
    """Raises ServerUnavailableError, with the names, if the scripts' commands are not all allowed.

    A script that lacks a command would stop half way.
    """
    if names := _missing(connection, keys, commands_in_scripts(), keys.queues):
        raise ServerUnavailableError(
            f"Redis denies our user these commands on {keys.prefix}*: {names}"
            " (`rqd acl` prints the rights that it needs)"
        )


def check_bridge_permissions(connection: redis.Redis, keys: Keys) -> None:
    """Raises ServerUnavailableError unless a bridge's scripts may use RQ's keys and rqd's."""
    needed = {keys.bridge: commands_of_bridge(), "rq:jobs": commands_of_bridge()}
    for key, commands in (needed | {STOP_CHANNEL: {"subscribe"}}).items():
        if names := _missing(connection, keys, commands, key):
            raise ServerUnavailableError(
                f"Redis denies our user these commands on {key}: {names}"
                " (`rqd acl --bridge` prints the rights that a bridge needs)"
            )


def _missing(connection: redis.Redis, keys: Keys, commands: Iterable[str], key: str) -> str:
    """Returns the commands that our user may not use on the key, joined; empty for none."""
    found: Any = connection.eval(_MISSING, 1, keys.queues, key, *sorted(commands))
    return ", ".join(name.decode() for name in found)


def _has_database(plain_url: str) -> bool:
    settings = redis.ConnectionPool.from_url(plain_url).connection_kwargs
    return bool(settings.get("db"))
