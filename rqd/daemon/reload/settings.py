"""Merges the settings that a reload reads with the settings of the running master.

The new settings apply once the zygote of that reload serves; if it is refused, none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from rqd.daemon.config import Config, LogSettings

# Reads the settings as the start did: the same options, and the file as it is now. Raises
# ConfigurationError.
Reread = Callable[[], Config]

# These identify the master, or are fixed or counted from its start.
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
    """Returns the settings for a master that runs with `old`, and the names that need a restart.

    The latter are settings that differ in `new`, but keep their old value.
    """
    kept = {name: getattr(old, name) for name in _FOR_A_START}
    ours = replace(new, **kept)
    return ours, changed(ours, new)


def changed(old: Config, new: Config) -> list[str]:
    """Returns the names of the settings that differ, in their order."""
    shown = [_SHOWN.get(name, name) for name in _differing(old, new) if name != "log"]
    shown += [_SHOWN_OF_LOG.get(name, name) for name in _differing(old.log, new.log)]
    return list(dict.fromkeys(name.replace("_", "-") for name in shown))


def _differing(old: Config | LogSettings, new: Config | LogSettings) -> list[str]:
    names = [one.name for one in fields(old)]
    return [name for name in names if getattr(old, name) != getattr(new, name)]
