"""`manage.py rqd start|info|enqueue|cron|..`: the `rqd` command with the project's settings."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from rqd.django import compat
from rqd.django.backend import RqdBackend
from rqd.django.framework import task_backends

PRELOAD = "rqd.django.preload"
MIDDLEWARE = "rqd.django.middleware.fresh_connections"


class _Place(NamedTuple):
    """The Redis and the queues of the settings; None leaves the environment's."""

    url: str | None
    namespace: str | None
    queues: set[str]


class Command(BaseCommand):
    """Becomes the `rqd` command: this process is the daemon, for systemd and for signals."""

    help = "Runs rqd with the Redis and the queues of TASKS. `manage.py rqd --help` lists commands."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Runs the command of a shell: all words behind `rqd` are rqd's own, `--help` too."""
        try:
            self.handle(words=argv[2:])
        except CommandError as error:
            self.stderr.write(f"rqd: {error}")
            sys.exit(64)

    def add_arguments(self, parser: Any) -> None:
        """Takes all words, for `call_command("rqd", "info")`."""
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, **options: Any) -> None:
        """Replaces this process. Raises CommandError for a backend that isn't rqd's."""
        words = list(options["words"])
        there = _place(_take_alias(words))
        if there.url is not None:
            os.environ["RQD_URL"] = there.url
        if there.namespace is not None:
            os.environ["RQD_NAMESPACE"] = there.namespace
        if words[:1] == ["start"]:
            words[1:] = _for_start(words[1:], there.queues)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "rqd", *words])


def _take_alias(words: list[str]) -> str | None:
    """Takes a leading `--backend ALIAS` out of the words; None without one."""
    if words[:1] != ["--backend"]:
        return None
    if len(words) < 2:
        raise CommandError("--backend: write an alias of TASKS behind it")
    alias = words[1]
    del words[:2]
    return alias


def _place(alias: str | None) -> _Place:
    """Returns the settings of a backend in TASKS, or of django-rq's RQ_QUEUES without one."""
    ours = {one.alias: one for one in task_backends.all() if isinstance(one, RqdBackend)}
    if alias is None and not ours and getattr(settings, "RQ_QUEUES", None):
        queues = set(settings.RQ_QUEUES)
        urls = {compat.url_of(name) for name in queues}
        if len(urls) > 1:
            raise CommandError("RQ_QUEUES names several Redis: move it to TASKS, and use --backend")
        return _Place(urls.pop(), None, queues)
    if alias is None and len(ours) != 1:
        alias = "default"
    if alias is not None and alias not in ours:
        known = ", ".join(sorted(ours)) or "none"
        raise CommandError(f"no RqdBackend {alias!r} in TASKS: --backend names one of {known}")
    one = ours[alias] if alias is not None else ours.popitem()[1]
    return _Place(one.settings.url, one.settings.namespace, one.queues)


def _for_start(words: list[str], queues: set[str]) -> list[str]:
    """Returns the words behind `start`, with the options that a daemon of the project needs."""
    rest = list(words)
    preload = ",".join([PRELOAD, *_take(rest, "--preload")])
    middleware = ",".join([MIDDLEWARE, *_take(rest, "--middleware")])
    own = ["--preload", preload, "--middleware", middleware]
    if not _has(rest, "--path", "-P"):
        own += ["--path", _project_folder()]
    if not _has(rest, "--queues", "-q"):
        if not queues:
            raise CommandError(
                "QUEUES in TASKS is empty, so any is allowed: write --queues NAME,.."
            )
        own += ["--queues", ",".join(sorted(queues))]
    return own + rest


def _take(words: list[str], name: str) -> list[str]:
    """Takes an option out of the words; returns its values."""
    values = []
    while name in words[:-1]:
        at = words.index(name)
        values.append(words[at + 1])
        del words[at : at + 2]
    for word in [one for one in words if one.startswith(f"{name}=")]:
        words.remove(word)
        values.append(word.removeprefix(f"{name}="))
    return values


def _has(words: list[str], name: str, short: str) -> bool:
    return any(word == name or word.startswith((f"{name}=", short)) for word in words)


def _project_folder() -> str:
    """Returns the folder from which the settings' module can be imported."""
    name = os.environ["DJANGO_SETTINGS_MODULE"]
    path = Path(str(import_module(name).__file__))
    module = path.parent if path.stem == "__init__" else path
    return str(module.parents[name.count(".")])
