"""Runs jobs in the caller's own process, for `Queue(is_async=False)` and `SimpleWorker`.

Everything goes to Redis and comes from there, serialized, as with a daemon; only nothing is forked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rqd.client.connection import Backend, using

if TYPE_CHECKING:
    from rqd.daemon.inline import InlineMaster


def run_now(backend: Backend, queue: str, job_ids: Iterable[str]) -> None:
    """Runs the ready jobs among these here, with the callbacks that their ends make.

    Runs a job again that is retried without a delay.
    """
    with inline_master(backend, [queue], is_of_thread=True) as master:
        for job_id in job_ids:
            while master.run_job(job_id):
                pass
            record = backend.views.job(job_id)
            for made in record.callbacks.split() if record is not None else ():
                while master.run_job(made):
                    pass


@contextmanager
def inline_master(
    backend: Backend, queues: Iterable[str], is_of_thread: bool = False, **settings: Any
) -> Iterator[InlineMaster]:
    """Makes a master for the block; `settings` are the other fields of its Config."""
    # Late: programs that only enqueue have no use for the daemon's modules.
    from rqd.daemon.config import Config  # noqa: PLC0415 - see above
    from rqd.daemon.inline import InlineMaster  # noqa: PLC0415 - see above

    config = Config(
        backend.url, backend.namespace, tuple(queues), 1, keyring=backend.keyring, **settings
    )
    make = InlineMaster.of_thread if is_of_thread else InlineMaster
    master = make(backend.store, config)
    try:
        with using(backend):
            yield master
    finally:
        master.leave()
