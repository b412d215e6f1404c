"""What a zygote reports to its master."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from rqd.daemon.processes.mailbox import Mailbox
from rqd.daemon.zygote.frames import FORMAT


@dataclass(frozen=True, slots=True)
class Unforkable:
    """What a module has left that its forks have not, or share: names of threads, and addresses to
    which it is connected; or why it could not be imported. Each is one text, empty for none.
    """

    module: str
    threads: str
    connections: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The zygote has imported the application; its size at that moment."""

    pid: int
    version: str
    rss_bytes: int
    format: int = FORMAT
    unforkable: tuple[Unforkable, ...] = ()


@dataclass(frozen=True, slots=True)
class BootFailed:
    """The application could not be imported."""

    traceback: str


@dataclass(frozen=True, slots=True)
class Forked:
    """A child waits in this worker's place."""

    worker: int
    pid: int
    channel: socket.socket
    pidfd: int
    mailbox: Mailbox | None = None

    def close(self) -> None:
        """Lets go of the child: it leaves."""
        # A child that was forked before these ends had reached us has copies of them.
        self.channel.shutdown(socket.SHUT_RDWR)
        self.channel.close()
        os.close(self.pidfd)
        if self.mailbox is not None:
            self.mailbox.close()


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The system would not fork, or had no descriptors; `has_place` is False if the zygote lacks
    those that all children in this place share, `useless_pid` a child that can't be given a job, as
    its own did not arrive.
    """

    worker: int
    error: str
    has_place: bool = True
    useless_pid: int = 0


@dataclass(frozen=True, slots=True)
class Exited:
    """A child is gone and its group with it. What it used isn't known if its status is 0."""

    worker: int
    pid: int
    status: int
    cpu_us: int
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Here:
    """The zygote goes round."""


ZygoteEvent = Ready | BootFailed | Forked | ForkFailed | Exited | Here
