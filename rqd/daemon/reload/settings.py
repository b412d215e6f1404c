"""The settings of a running master, read again at a reload: what changes, and what can't.

They are in force once the zygote of that reload serves, all of them; if it is refused, none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from rqd.daemon.config import Config, LogSettings

# Reads the settings as the start did: the same options, the file as it is by now. Raises
# ConfigurationError.
Reread = Callable[[], Config]

# Which master this is, and what it counts from its start on.
_FOR_A_START = ("url", "namespace", "name", "user", "max_jobs", "autoreload")
_SHOWN = {
    "crons": "cron",
    "cron_source": "cron",
    "exception_handlers": "exception-handler",
    "grace_s": "grace",
    "limits": "max-memory, max-cpu",
    "max_idle_s": "max-idle",
    "payload_limit_bytes": "payload-limit",
    "weights": "queues",
}
_SHOWN_OF_LOG = {name: f"log-{name}" for name in ("format", "level", "file")}


def merge_reloadable(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The settings for a master that runs with `old`, and the names of those in `new` that need a
    restart.
    """
    kept = {name: getattr(old, name) for name in _FOR_A_START}
    ours = replace(new, **kept)
    return ours, changed(ours, new)


def changed(old: Config, new: Config) -> list[str]:
    """The names of the settings that differ, in their order."""
    shown = [_SHOWN.get(name, name) for name in _differing(old, new) if name != "log"]
    shown += [_SHOWN_OF_LOG.get(name, name) for name in _differing(old.log, new.log)]
    return list(dict.fromkeys(name.replace("_", "-") for name in shown))


def _differing(old: Config | LogSettings, new: Config | LogSettings) -> list[str]:
    names = [one.name for one in fields(old)]
    return [name for name in names if getattr(old, name) != getattr(new, name)]
