"""What a master and its workers show of themselves in Redis, for `rqd info`."""

from __future__ import annotations

import os

import psutil

from rqd.daemon.processes.worker import Run, Worker
from rqd.daemon.processes.zygotes import Zygotes

# Of a traceback: its end says what is wrong.
_ERROR_CHARS = 8 * 1024
Row = dict[str, str | int | float]


# Used time is told in hundredths of a second: over less than this they would say anything.
_LEAST_S = 1.0


class Gauge:
    """CPU use of processes between two looks; rss and cpu by psutil."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}
        self._told: dict[int, float] = {}

    def read(self, pid: int, now: float, since: float | None = None) -> Row:
        """`rss_bytes` and `cpu_percent` of a process, {} if it is gone or can't be looked at: since
        the last look, or since it got something to do if it was not looked at before. What was told
        last, or 0, if that is no second ago.
        """
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                rss = process.memory_info().rss
        except psutil.Error:
            self._forget(pid)
            return {}
        except OSError:
            return {}  # such as no free descriptor: psutil passes that on as it is
        used_s = times.user + times.system
        first = (now, used_s) if since is None else (since, 0.0)
        before, before_s = self._seen.setdefault(pid, first)
        if now - before >= _LEAST_S:
            self._seen[pid] = (now, used_s)
            self._told[pid] = 100 * (used_s - before_s) / (now - before)
        return {"rss_bytes": rss, "cpu_percent": f"{self._told.get(pid, 0.0):.1f}"}

    def forget_all_but(self, pids: set[int]) -> None:
        """Drops what is known of other processes."""
        for pid in self._seen.keys() - pids:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        self._seen.pop(pid, None)
        self._told.pop(pid, None)


def worker_row(worker: Worker, unrecorded: Run | None, gauge: Gauge, now: float, host: str) -> Row:
    """A worker's row: state, pid, host, rss and cpu, its last error; the memory of its job.

    It is busy until the end of its job is recorded: `unrecorded` is one for which that is left.
    """
    child, run = worker.child, worker.run or unrecorded
    row: Row = {
        "host": host,
        "state": "busy" if run else ("idle" if child else "starting"),
        "pid": child.pid if child else 0,
        "job": run.claim.id if run else "",
        "func_name": run.claim.func_name if run else "",
        "queue": run.claim.queue if run else "",
        "last_error": worker.last_error,
        "worked_s": f"{worker.worked_s:.3f}",
    }
    if run and run.sent_at is not None:
        # A row that names another job by the time it is read was not measured since.
        memory = "" if run.memory_bytes is None else run.memory_bytes
        row |= {"measured": run.claim.id, "memory_bytes": memory}
    since = run.sent_at if run else None
    return row | (gauge.read(child.pid, now, since) if child else {})


def master_row(
    state: str,
    workers: list[Worker],
    busy: int,
    zygotes: Zygotes,
    gauge: Gauge,
    now: float,
    highest: int,
) -> Row:
    """A master's row: state, busy workers, pids, rss and cpu; what became of its last reload, and
    why no zygote serves, if none does.
    """
    serving, reload = zygotes.serving, zygotes.reloads.latest
    return {
        "state": state,
        "busy": busy,
        "wanted": sum(worker.wanted for worker in workers),
        "workers": highest,
        "zygote_pid": serving.pid if serving else 0,
        "why_no_zygote": zygotes.why_none,
        "preload_learnt": ",".join(zygotes.learning.learnt),
        "reload": reload.state if reload else "",
        "reload_requests": " ".join(filter(None, reload.requests)) if reload else "",
        "reload_error": reload.error[-_ERROR_CHARS:] if reload else "",
        **gauge.read(os.getpid(), now),
    }
