"""The settings of a master, checked; and their merge with the settings that a reload reads.

The new settings apply once the zygote of that reload serves; if it is refused, none of them.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import chain
from resource import RLIMIT_NOFILE
from typing import TYPE_CHECKING

from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES, HIGHEST_PAYLOAD_LIMIT_BYTES
from rqd.model.errors import ConfigurationError
from rqd.model.names import check_name, check_queue_name
from rqd.model.resources import NO_RESOURCE_LIMITS, ResourceLimits
from rqd.model.serializers import BUILT_IN

if TYPE_CHECKING:
    from rqd.model.cron import CronEntry
    from rqd.model.signing import Keyring

MAX_WORKERS = 1000
PRECEDENCES = ("strict", "round-robin", "random", "weighted")
HIGHEST_WEIGHT = 1000
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "text", "json", "journal")
JOB_OUTPUTS = ("plain", "prefix", "none")
# A worker's slot has pipes, its child a channel, a mailbox and a pidfd. The rest is for a reload,
# when two zygotes have slots.
_FDS_A_WORKER, _FDS_BESIDE = 10, 64
_HIGHEST_NICE = 19
_PATTERN = re.compile(r"[\w.*?\[\]!-]+\Z")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings of a master's log.

    `file` None is standard error; `format` auto chooses by the kind of that descriptor.
    `job_output` writes the output of jobs plain, with a prefix of their ids, or not at all (none).
    Raises ConfigurationError if a value is wrong.
    """

    format: str = "auto"
    level: str = "info"
    file: str | None = None
    job_output: str = "plain"

    def __post_init__(self) -> None:
        _check_choice("--log-format", self.format, LOG_FORMATS)
        _check_choice("--log-level", self.level, LOG_LEVELS)
        _check_choice("--job-output", self.job_output, JOB_OUTPUTS)
        if self.format == "journal" and self.file is not None:
            raise ConfigurationError(
                "--log-format journal goes to the journal: leave --log-file out"
            )


@dataclass(frozen=True, slots=True)
class Config:
    """A master's settings, checked. `grace_s` in seconds; `name` None is the host's and a number.

    `max_jobs` and `max_idle_s` None set no limit, so that the master does not end by itself.
    `keyring` None verifies no signature. `serializers` empty accepts all, `allow` empty any
    function. Raises ConfigurationError if a value is wrong.
    """

    url: str = field(repr=False)  # it may hold a password
    namespace: str = "rqd"
    queues: tuple[str, ...] = ("default",)
    workers: int = 4
    preload: tuple[str, ...] = ()
    preload_learn: bool = True
    preload_hints: tuple[str, ...] = ()  # preloaded if they are fit for it
    jobs_per_child: int = 1
    grace_s: float = 30.0
    burst: bool = False
    max_jobs: int | None = None
    max_idle_s: float | None = None
    path: tuple[str, ...] = (".",)
    name: str | None = None
    user: str | None = None  # the user that this process changed to, if root started it
    keyring: Keyring | None = None
    require_signed: bool = False
    allow: tuple[str, ...] = ()
    serializers: tuple[str, ...] = ()
    payload_limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES
    middleware: tuple[str, ...] = ()
    exception_handlers: tuple[str, ...] = ()
    precedence: str = "strict"
    weights: tuple[int, ...] = ()  # of the queues, with `precedence` weighted
    autoreload: bool = False
    cron_source: str = ""  # the file that `crons` are from, empty for none
    crons: tuple[CronEntry, ...] = ()
    log: LogSettings = field(default_factory=LogSettings)
    limits: ResourceLimits = NO_RESOURCE_LIMITS  # of jobs without limits of their own
    max_files: int | None = None  # of the zygote and children; None for the daemon's own limit
    nice: int = 0
    max_pids: int | None = None

    def __post_init__(self) -> None:
        check_name(self.namespace, "namespace")
        if self.name is not None:
            check_name(self.name, "master name")
        for queue in self.queues:
            check_queue_name(queue)
        _check_choice("--precedence", self.precedence, PRECEDENCES)
        problems = chain(
            *(self._queue_problems(), self._number_problems(), self._file_problems()),
            *(self._application_problems(), self._trust_problems()),
        )
        if first := next(problems, ""):
            raise ConfigurationError(first)

    def _queue_problems(self) -> Iterator[str]:
        if not self.queues:
            yield "--queues is empty: write at least one name, high,low"
        if len(set(self.queues)) < len(self.queues):
            yield f"--queues {','.join(self.queues)} names a queue twice"
        if len(self.weights) != (len(self.queues) if self.precedence == "weighted" else 0):
            yield "--precedence weighted needs weights: --queues high:5,low:1"
        if not all(1 <= weight <= HIGHEST_WEIGHT for weight in self.weights):
            yield f"--queues has a wrong weight: write 1 to {HIGHEST_WEIGHT}"

    def _number_problems(self) -> Iterator[str]:
        if not 1 <= self.workers <= MAX_WORKERS:
            yield f"--workers {self.workers}: write 1 to {MAX_WORKERS}"
        if self.jobs_per_child < 1:
            yield f"--jobs-per-child {self.jobs_per_child}: write 1 or more"
        if self.max_jobs is not None and self.max_jobs < 1:
            yield f"--max-jobs {self.max_jobs}: write 1 or more"
        if self.max_idle_s is not None and self.max_idle_s <= 0:
            yield f"--max-idle {self.max_idle_s:g}: write seconds, above 0"
        if self.grace_s < 0:
            yield f"--grace {self.grace_s:g}: write seconds, 0 or more"
        if not 0 <= self.nice <= _HIGHEST_NICE:
            yield f"--nice {self.nice}: write 0 to {_HIGHEST_NICE}"
        if self.max_pids is not None and self.max_pids < 1:
            yield f"--max-pids {self.max_pids}: write 1 or more"
        if not 0 < self.payload_limit_bytes <= HIGHEST_PAYLOAD_LIMIT_BYTES:
            limit = f"{HIGHEST_PAYLOAD_LIMIT_BYTES:,} bytes"
            yield f"--payload-limit {self.payload_limit_bytes}: write 1 to {limit}"

    def _file_problems(self) -> Iterator[str]:
        if self.max_files is None:
            return
        option, (_, most) = f"--max-files {self.max_files}", resource.getrlimit(RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY and self.max_files > most:
            yield f"{option}: write {most:,} or less, or raise ulimit -Hn"
        # The zygote, which has a few for each worker, is under this limit too.
        if self.max_files < (least := files_needed(self.workers)):
            yield f"{option}: with {self.workers} workers write {least} or more"

    def _application_problems(self) -> Iterator[str]:
        for folder in self.path:
            if not os.path.isdir(folder):
                yield f"--path {folder}: there is no such folder"
        for module in (*self.preload, *self.preload_hints):
            if not all(part.isidentifier() for part in module.split(".")):
                yield f"--preload {module}: write dotted module names"
        around = {"--middleware": self.middleware, "--exception-handler": self.exception_handlers}
        for option, names in around.items():
            for name in names:
                if not _is_dotted(name):
                    yield f"{option} {name}: write dotted names, module.function"

    def _trust_problems(self) -> Iterator[str]:
        if self.require_signed and self.keyring is None:
            yield "--require-signed needs a key: set RQD_SIGNING_KEY or RQD_SIGNING_KEY_FILE"
        for pattern in self.allow:
            if not _PATTERN.match(pattern):
                yield f"--allow {pattern}: write dotted names, with * for any text: shop.tasks.*"
        for name in self.serializers:
            if name not in BUILT_IN and not _is_dotted(name):
                near = [f"did you mean {one}? " for one in get_close_matches(name, BUILT_IN, 1)]
                yield f"--serializers {name}: {''.join(near)}write pickle, json or dotted paths"


def _check_choice(option: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ConfigurationError(
            f"{option} {given}: write {', '.join(choices[:-1])} or {choices[-1]}"
        )


def files_needed(workers: int) -> int:
    """Returns the most open files that a daemon with so many workers needs."""
    return _FDS_A_WORKER * workers + _FDS_BESIDE


def _is_dotted(name: str) -> bool:
    return "." in name and all(part.isidentifier() for part in name.split("."))


def zygote_path(config: Config) -> list[str]:
    """Returns the zygote's import path: the application's folders, then the master's own."""
    first = [os.path.abspath(folder) for folder in config.path]
    return first + [entry for entry in sys.path if entry and entry not in first]


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
