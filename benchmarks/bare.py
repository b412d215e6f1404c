"""The bare loop: the zygote's own work without Redis and without the master's.

The real zygote, the real children with their whole set-up: each gets the frame of a no-op job,
answers, exits, is reaped and reported. No faster fork-per-job daemon can stand on this zygote.
Run as a program: `python -m benchmarks.bare WORKERS JOBS` prints jobs a second.
"""

from __future__ import annotations

import os
import select
import sys
import time

from benchmarks import tasks
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameReader, encode_frame
from rqd.daemon.zygotes.events import BootFailed, Exited, Forked, ForkFailed
from rqd.daemon.zygotes.process import ZygoteProcess
from rqd.daemon.zygotes.spawn import ZygoteSettings
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES, encode_call

WARM_UP_SHARE = 0.05  # of the jobs, before the clock starts: as for everyone


def jobs_per_second(workers: int, jobs: int) -> float:
    """Drives a zygote through so many jobs, `workers` at a time; the first few aren't counted."""
    path = [entry for entry in sys.path if entry]
    zygote = ZygoteProcess(ZygoteSettings(path, ("benchmarks.tasks",), 1))
    epoll = select.epoll()
    epoll.register(zygote.control_fd, select.EPOLLIN)
    try:
        for number in range(1, workers + 1):
            zygote.fill(number)
        return _drive(zygote, epoll, jobs)
    finally:
        epoll.close()
        zygote.close()


def _drive(zygote: ZygoteProcess, epoll: select.epoll, jobs: int) -> float:
    job = _job_frame()
    waiting: dict[int, Forked] = {}
    first = max(1, int(jobs * WARM_UP_SHARE))
    done, began = 0, 0.0
    while done < jobs:
        if not epoll.poll(10.0):
            raise RuntimeError("the zygote has stopped reporting")
        for event in zygote.receive():
            match event:
                case Forked():
                    event.channel.send(job)
                    waiting[event.worker] = event
                case Exited():
                    _check_answer(waiting.pop(event.worker))
                    done += 1
                    if done == first:
                        began = time.perf_counter()
                case BootFailed() | ForkFailed():
                    raise RuntimeError(str(event))
    return (jobs - first) / (time.perf_counter() - began)


def _check_answer(child: Forked) -> None:
    ((kind, _),) = FrameReader().feed(child.channel.recv(65536))
    if kind != protocol.SUCCEEDED:
        raise RuntimeError(f"a job answered with a frame of kind {kind}")
    child.channel.close()
    os.close(child.pidfd)


def _job_frame() -> bytes:
    name, payload = encode_call(tasks.noop, (), {}, "pickle", DEFAULT_PAYLOAD_LIMIT_BYTES)
    job_id = b"01234567-89ab-4def-8123-456789abcdef"
    fields = (job_id, b"1:bare", b"1", b"default", name.encode(), payload, b"pickle", b"180")
    return encode_frame(protocol.JOB, *fields)


if __name__ == "__main__":
    print(jobs_per_second(int(sys.argv[1]), int(sys.argv[2])))
