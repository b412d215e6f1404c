"""The settings of a running master, read again at a reload: what changes, and what can't.

They are in force once the zygote of that reload serves, all of them; if it is refused, none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from rqd.daemon.config import Config

# Reads the settings as the start did: the same options, the file as it is by now. Raises
# ConfigurationError.
Reread = Callable[[], Config]

# Which master this is, and what it counts from its start on.
_FOR_A_START = ("url", "namespace", "name", "user", "max_jobs")
_SHOWN = {
    "crons": "cron",
    "cron_source": "cron",
    "exception_handlers": "exception-handler",
    "grace_s": "grace",
    "max_idle_s": "max-idle",
    "payload_limit_bytes": "payload-limit",
    "weights": "queues",
}


def renewed(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The settings for a master that runs with `old`, and the names of those in `new` that need a
    restart.
    """
    kept = {name: getattr(old, name) for name in _FOR_A_START}
    ours = replace(new, **kept)
    return ours, changed(ours, new)


def changed(old: Config, new: Config) -> list[str]:
    """The names of the settings that differ, in their order."""
    names = [one.name for one in fields(Config) if getattr(old, one.name) != getattr(new, one.name)]
    return list(dict.fromkeys(_SHOWN.get(name, name.replace("_", "-")) for name in names))
