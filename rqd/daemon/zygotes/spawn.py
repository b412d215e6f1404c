"""Starts a zygote: a fresh interpreter, which shares no memory and no state with its master."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rqd.daemon.config import Config, zygote_path
from rqd.daemon.host.orphans import MARK, become_subreaper
from rqd.daemon.instance import Instance
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame

# Symbols that are bound at the first call would be bound again, and their page copied, in each
# child: 5 % of the bare loop. The zygote removes the variable from the jobs' environment.
_BIND_NOW = "rqd"


@dataclass(frozen=True, slots=True)
class ZygoteSettings:
    """The settings with which a zygote is started."""

    path: list[str]
    preload: tuple[str, ...]
    jobs_per_child: int
    environment: Mapping[str, str] = field(default_factory=dict)
    mark: Path | None = None  # a file that all its forks hold open, so that they can be found
    trust: bytes = b""
    middleware: tuple[str, ...] = ()
    exception_handlers: tuple[str, ...] = ()
    learnt: tuple[str, ...] = ()  # as preload, but each import may fail
    # Called in the zygote before all else: its settings hold for all children.
    prepare: Callable[[], None] = become_subreaper


def settings_of_zygote(
    config: Config, instance: Instance, learnt: tuple[str, ...] = ()
) -> ZygoteSettings:
    """Returns the settings of a zygote of this master.

    `learnt`: modules that jobs' processes were seen to import.
    """
    return ZygoteSettings(
        path=zygote_path(config),
        preload=config.preload,
        jobs_per_child=config.jobs_per_child,
        # A job that enqueues finds the daemon's own Redis without settings of its own.
        environment={
            "RQD_URL": config.url,
            "RQD_NAMESPACE": config.namespace,
            MARK: instance.boot,
        },
        # By its descriptor: the file may have been removed.
        mark=Path(f"/proc/self/fd/{instance.lock_fd}") if instance.is_locked else None,
        trust=_trust_frame(config),
        middleware=config.middleware,
        exception_handlers=config.exception_handlers,
        learnt=learnt,
        prepare=partial(_prepare_for_jobs, config.max_files, config.nice),
    )


def spawn(settings: ZygoteSettings, control_fd: int, output_fd: int) -> subprocess.Popen[bytes]:
    """Starts a zygote with its control socket at `control_fd` and its output to `output_fd`.

    Raises OSError or SubprocessError if the system can't start it.
    """
    mark_fd = trust_fd = -1
    own_fds: list[int] = []
    try:
        if settings.mark:
            own_fds.append(mark_fd := os.open(settings.mark, os.O_RDONLY | os.O_CLOEXEC))
        if settings.trust:
            # Neither as arguments, which all can read, nor in an environment, which jobs inherit.
            own_fds.append(trust_fd := _file_with(settings.trust))
        arguments = [control_fd, settings.jobs_per_child, settings.preload, settings.learnt]
        arguments += [(settings.middleware, settings.exception_handlers), (mark_fd, trust_fd)]
        # `-c` and not `-m`: runpy's own imports would be paid at every fork.
        start = (
            f"import sys; sys.path[:] = {settings.path!r}; from rqd.daemon.zygote.boot import main;"
            f" main({', '.join(map(repr, arguments))})"
        )
        return subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.DEVNULL,
            stdout=output_fd,
            stderr=output_fd,
            env={"LD_BIND_NOW": _BIND_NOW, **os.environ, **settings.environment},
            pass_fds=[control_fd, *own_fds],
            process_group=0,  # a terminal's Ctrl-C is for the master alone
            # Kept through exec, so that the zygote needs no ctypes for it.
            preexec_fn=settings.prepare,  # noqa: PLW1509 - the master has one thread
        )
    finally:
        for fd in own_fds:
            os.close(fd)


def _trust_frame(config: Config) -> bytes:
    """The frame with the keys and the allowlist for a zygote; empty without both."""
    keys = config.keyring.secrets if config.keyring is not None else ()
    if not keys and not config.allow:
        return b""
    texts = (config.namespace, str(len(keys)), *keys, *config.allow)
    return encode_frame(protocol.TRUST, *(text.encode() for text in texts))


def _file_with(data: bytes) -> int:
    """Returns a descriptor of a nameless file in memory that holds `data`."""
    fd = os.memfd_create("rqd")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _prepare_for_jobs(max_files: int | None, nice: int) -> None:
    """Applies process settings to the zygote. All jobs inherit them, at no cost a fork.

    `max_files` None leaves the limit of open files as it is.
    """
    become_subreaper()
    if max_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))
    if nice:
        os.nice(nice)
