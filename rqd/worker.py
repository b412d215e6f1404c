"""`Worker(...).work()` from Python: the one door between the user's classes and the daemon.

It executes a daemon of its own and waits for it, instead of forking from the caller's process,
which may have threads, connections and signal handlers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from fcntl import F_SETFL, F_SETOWN, fcntl
from types import FrameType
from typing import Any

from rqd.connection import backend_for
from rqd.job import Connection
from rqd.model.errors import ConfigurationError, RqdError
from rqd.queue import Queue

_F_SETSIG = 10  # fcntl.h; Python has no name for it


class Worker:
    """Works on queues, in order of precedence."""

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        name: str | None = None,
        connection: Connection = None,
        workers: int = 1,
    ) -> None:
        given = [queues] if isinstance(queues, Queue | str) else list(queues)
        first = next((queue for queue in given if isinstance(queue, Queue)), None)
        self._backend = backend_for(connection if connection or not first else first.connection)
        self.queues = [q if isinstance(q, Queue) else Queue(q, self._backend) for q in given]
        if not self.queues:
            raise ConfigurationError("Worker([]): name at least one queue")
        self.name = name
        self.workers = workers

    def queue_names(self) -> list[str]:
        """The names of its queues."""
        return [queue.name for queue in self.queues]

    def work(self, burst: bool = True) -> bool:
        """Runs what the queues hold and returns when they are empty; RQ's `work()` does not return.

        Returns True if the daemon ended well. Raises RqdError if it could not start.
        """
        return self._run(["--burst"] if burst else [])

    def work_forever(self) -> bool:
        """Works until it is told to stop (Ctrl-C, SIGTERM, `rqd stop`)."""
        return self._run([])

    def _run(self, extra: list[str]) -> bool:
        command = [sys.executable, "-m", "rqd", "start", "--queues", ",".join(self.queue_names())]
        command += ["--workers", str(self.workers), "--namespace", self._backend.namespace, *extra]
        if self.name:
            command += ["--name", self.name]
        # The folder of the caller's script comes first on its path, and has its modules.
        for entry in sys.path:
            if os.path.isdir(entry or "."):
                command += ["--path", entry or "."]
        # In the environment and not among the arguments, which every user of the machine can read.
        environment = {**os.environ, "RQD_URL": self._backend.url}
        life_read, life_write = os.pipe()
        try:
            daemon = subprocess.Popen(
                command,
                env=environment,
                pass_fds=[life_read],
                preexec_fn=lambda: _stop_with(life_read),
            )
            os.close(life_read)
            status = _wait(daemon)
        finally:
            os.close(life_write)
        if status in (64, 69, 77, 78):
            raise RqdError(f"the worker could not start, status {status}: its log says why")
        return status == 0


def _stop_with(life_read: int) -> None:
    """The kernel sends SIGTERM to this process when the caller's end of the pipe closes."""
    fcntl(life_read, _F_SETSIG, signal.SIGTERM)
    fcntl(life_read, F_SETOWN, os.getpid())
    fcntl(life_read, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def _wait(daemon: subprocess.Popen[Any]) -> int:
    """Waits for the daemon; passes on SIGTERM, and lets Ctrl-C, which it hears itself, take its time."""

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        daemon.send_signal(signum)

    try:
        before = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:  # not the main thread: the caller's handlers stay as they are
        return daemon.wait()
    try:
        while True:
            try:
                return daemon.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
