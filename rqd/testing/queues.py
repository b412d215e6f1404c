"""Runs queues' jobs in tests, and a server for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rqd.client.connection import Connection
from rqd.client.queue import Queue
from rqd.client.worker import SimpleWorker, Worker
from rqd.daemon.host.embedded import EmbeddedServer
from rqd.model.errors import RqdError

_READY_S = 30.0


def run_jobs(*queues: Queue | str, connection: Connection = None, forked: bool = False) -> None:
    """Runs the jobs of these queues, also new ones from the jobs, until the queues are empty.

    Without a queue it runs `default`. The jobs run in this process, one after the other. `forked`
    runs them in a daemon of its own, where a job may crash, time out and print as in production.
    Scheduled jobs go on waiting. Raises RqdError if the daemon could not run.
    """
    names = queues or ("default",)
    if not forked:
        SimpleWorker(names, connection=connection).work(burst=True)
    elif not Worker(names, connection=connection).work(burst=True):
        raise RqdError("the daemon ended with an error: its log, on stderr, says why")


@contextmanager
def embedded_server() -> Iterator[str]:
    """Runs a server of its own for the block, and yields its URL. It ends with this process, too.

    Raises RqdError without a server program: it comes with rqd's extra `embedded`, or is on PATH.
    """
    # /tmp, as the path of a unix socket is short.
    with tempfile.TemporaryDirectory(prefix="rqd-", dir="/tmp") as folder:
        server = EmbeddedServer(Path(folder))
        try:
            server.ensure()
            server.wait_ready(_READY_S)
            yield f"embedded:{folder}"
        finally:
            server.stop()
