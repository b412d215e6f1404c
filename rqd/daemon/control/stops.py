"""Jobs that somebody wants stopped: an exception in the job first, the kill of its group later.

The order stands in the job's record, and each beat brings it. It names the attempt by its token: it
can't stop a later one of the same job.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rqd.daemon.host.pidfd_signals import stop_by_pidfd
from rqd.daemon.log.log import Log, about
from rqd.daemon.processes.children import Children
from rqd.daemon.processes.hearing import Ended
from rqd.model.outcome import Crashed, Report, Stopped

DEFAULT_GRACE_S = 5.0
_LONGEST_GRACE_S = 10.0**9
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Stop:
    """An order to stop one attempt; `grace_s` from the exception to the kill, 0 to kill at once."""

    token: str
    by: str
    grace_s: float

    @classmethod
    def read(cls, command: dict[str, Any]) -> Stop:
        """The order of a record, where anybody may have written anything."""
        grace_s, by = command.get("grace_s"), command.get("by")
        if not isinstance(grace_s, int | float) or not 0 <= grace_s <= _LONGEST_GRACE_S:
            grace_s = DEFAULT_GRACE_S
        return cls(
            token=str(command.get("token", "")),
            by=(by if isinstance(by, str) else "somebody")[:_SHOWN_CHARS],
            grace_s=float(grace_s),
        )


class Stops:
    """Carries out what is asked of running jobs."""

    def __init__(self, children: Children, log: Log) -> None:
        self._children = children
        self._log = log
        self._obeyed: dict[str, Stop] = {}  # by token

    def obey(self, orders: Sequence[dict[str, Any]], now: float) -> list[Ended]:
        """Carries out the orders that are new, or have changed: another grace, say.

        Returns the attempts that it ended at once.
        """
        before, self._obeyed = self._obeyed, {}
        runs = {run.claim.token: run for run in self._children.workers.held()}
        ended: list[Ended] = []
        for stop in map(Stop.read, orders):
            if (run := runs.get(stop.token)) is None:
                continue  # it has just ended; or its claim is on its way, and the next beat tells
            is_asked = run.killed_at is not None or isinstance(run.verdict, Stopped)
            if before.get(stop.token, stop) != stop or not is_asked:
                ended += self._stop(stop, now)
            self._obeyed[stop.token] = stop
        return ended

    def _stop(self, stop: Stop, now: float) -> list[Ended]:
        held = self._children.workers.held()
        run = next((run for run in held if run.claim.token == stop.token), None)
        if run is None or not self._children.pin(run, now):
            return []  # it has just ended
        self._log.info("job is to stop", **about(run.claim), by=stop.by, grace_s=stop.grace_s)
        verdict = Stopped(stop.by)
        if run.sent_at is None:
            self._children.workers.by_number[run.worker].let_go(run)
            return [Ended(run, Report(verdict))]
        child = self._children.workers.stop_soon(run, verdict, now + stop.grace_s, now)
        if stop.grace_s <= 0:
            self._children.kill(run, verdict, now)
        elif child is not None:
            stop_by_pidfd(child.pidfd)
        return []

    def kill(self, worker: object, now: float) -> None:
        """Ends jobs as if they had crashed by SIGKILL: those of one worker, or of all for None."""
        for run in self._children.pin_all(now):
            is_meant = worker is None or (type(worker) is int and worker == run.worker)
            if run.sent_at is not None and is_meant:
                self._log.warning("job is killed as asked", **about(run.claim))
                verdict = Crashed(signal=signal.SIGKILL, sent_by="rqd, for an operator")
                self._children.kill(run, verdict, now)
