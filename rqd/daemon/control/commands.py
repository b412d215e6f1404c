"""Obeys commands from Redis and replies to them: scale, reload, stop a job, ..."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rqd.daemon.config import MAX_WORKERS
from rqd.daemon.control.authentication import Authentication
from rqd.daemon.control.replies import Replies
from rqd.daemon.control.stack_requests import StackRequests
from rqd.daemon.host.pidfd import stop_by_pidfd
from rqd.daemon.lifecycle import Lifecycle
from rqd.daemon.log.log import Log, about
from rqd.daemon.signals import Shutdown
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.reader import Ended
from rqd.model.outcome import Crashed, Report, Stopped

_LONGEST_S = 1e9
_SHOWN_CHARS = 100  # of a command, which anybody may have written
_REFUSED_AGAIN_S = 10.0


class Commands:
    """Obeys each command once, and replies to commands that ask for a reply."""

    def __init__(
        self,
        pool: Pool,
        lifecycle: Lifecycle,
        replies: Replies,
        authentication: Authentication,
        stack_requests: StackRequests,
        log: Log,
    ) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._replies = replies
        self._authentication = authentication
        self._log = log
        self._stops = Stops(pool, log)
        self._stack_requests = stack_requests
        self._reloads: list[str] = []
        self.obeyed = ""  # the id of the latest command
        self._refused = 0  # since the last log entry
        self._refused_again_at = 0.0

    def obey(self, commands: Sequence[dict[str, Any]], now_us: int, now: float) -> list[str]:
        """Carries out the new commands in their order, or refuses them.

        `now_us` is Redis' time. Returns the ids of the commands that ask for a reload.
        """
        self._reloads = []
        for command in commands:
            if command["id"] != self.obeyed:
                self.obeyed = command["id"]
                if why := self._authentication.admit(command, now_us):
                    answer: dict[str, Any] | None = self._refuse(command, why, now)
                else:
                    answer = self._obey(command, now)
                if answer is not None:
                    self._replies.give(command, answer, now)
        if commands:
            self._replies.send(now)
        return self._reloads

    def stop_jobs(self, orders: Sequence[dict[str, Any]], now: float) -> list[Ended]:
        """Stops the jobs whose records have an order to stop; returns the attempts that ended."""
        return self._stops.obey(orders, now)

    def _refuse(self, command: dict[str, Any], why: str, now: float) -> dict[str, Any]:
        """Returns the refusal; logs it only once in a while, as anybody may send a thousand."""
        self._refused += 1
        if now >= self._refused_again_at:
            self._refused_again_at = now + _REFUSED_AGAIN_S
            refused, self._refused = self._refused, 0
            name = _shown(command.get("do"))
            self._log.warning("command refused", command=name, why=why, commands=refused)
        return {"error": why}

    def _obey(self, command: dict[str, Any], now: float) -> dict[str, Any] | None:
        """Returns the reply; None if it comes later."""
        match command.get("do"):
            case "stop":
                is_now = bool(command.get("now"))
                self._lifecycle.stop(Shutdown.IMMEDIATE if is_now else Shutdown.GRACEFUL, now)
            case "reload":
                self._reloads.append(command["id"])
            case "pause" | "resume" | "scale":
                return self._change(command, now)
            case "kill_jobs":
                self._stops.kill(command.get("worker"), now)
            case "stop_job":
                pass  # of an older client: the beat that brought it has brought the order, too
            case "stack":
                return self._stack_requests.take(command, now)
            case other:
                if not obey_for_job(command, self._pool, now, self._log):
                    self._log.warning("unknown command ignored", command=_shown(other))
                    return {"error": "this master does not know the command"}
        return self._lifecycle.summary()

    def _change(self, command: dict[str, Any], now: float) -> dict[str, Any]:
        """Pauses, resumes or scales the master; refuses to while it stops."""
        lifecycle = self._lifecycle
        before = lifecycle.summary()
        if lifecycle.is_stopping:
            return before | {"error": "it is stopping"}
        if command["do"] != "scale":
            lifecycle.pause(command["do"] == "pause", now)
            if command["do"] == "pause" and command.get("now") is True:
                lifecycle.kill_jobs("its master was drained at once", now)
            return lifecycle.summary()
        asked = workers_asked_for(command, before["workers"])
        if asked is None:
            return before | {"error": f"it can have 1 to {MAX_WORKERS:,} workers"}
        if error := lifecycle.resize(asked, now):
            return before | {"error": error}
        return lifecycle.summary() | {"were": before["workers"]}


def workers_asked_for(command: dict[str, Any], workers: int) -> int | None:
    """Returns the number of workers that a `scale` asks for: `to` so many, or `by` so many more.

    None for a number out of range.
    """
    to, by = command.get("to"), command.get("by")
    if type(to) is int:
        asked = to
    elif type(by) is int:
        asked = workers + by
    else:
        return None
    return asked if 1 <= asked <= MAX_WORKERS else None


def obey_for_job(command: dict[str, Any], pool: Pool, now: float, log: Log) -> bool:
    """Obeys a command that names a job and its attempt's fence; False if it is no such command."""
    job_id, fence = command.get("job"), command.get("fence")
    if not isinstance(job_id, str) or type(fence) is not int:
        return False
    match command.get("do"):
        case "extend":
            seconds = _time_s(command.get("seconds"))
            if seconds is None:
                return False
            is_here = pool.extend(job_id, fence, seconds, now)
            log.info("job extended", job_id=job_id, by_s=seconds, runs_here=is_here)
        case "follow":
            pool.workers.follow(job_id, fence, command.get("first") is True, now)
        case _:
            return False
    return True


def _shown(value: object) -> str:
    """Returns a name for the log; a value that is no text may be too deep to be written."""
    return value[:_SHOWN_CHARS] if isinstance(value, str) else type(value).__name__


def _time_s(seconds: Any) -> float | None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return float(seconds) if 0 < seconds <= _LONGEST_S else None  # no NaN passes either


DEFAULT_GRACE_S = 5.0
_LONGEST_GRACE_S = 10.0**9
_SHOWN_COMMAND_CHARS = 200


@dataclass(frozen=True, slots=True)
class Stop:
    """An order to stop an attempt; `grace_s` from the exception to the kill, 0 to kill at once."""

    token: str
    by: str
    grace_s: float

    @classmethod
    def read(cls, command: dict[str, Any]) -> Stop:
        """Reads an order from a job's record, where anybody may have written anything."""
        grace_s, by = command.get("grace_s"), command.get("by")
        if not isinstance(grace_s, int | float) or not 0 <= grace_s <= _LONGEST_GRACE_S:
            grace_s = DEFAULT_GRACE_S
        return cls(
            token=str(command.get("token", "")),
            by=(by if isinstance(by, str) else "somebody")[:_SHOWN_COMMAND_CHARS],
            grace_s=float(grace_s),
        )


class Stops:
    """Carries out orders to stop or kill running jobs."""

    def __init__(self, pool: Pool, log: Log) -> None:
        self._pool = pool
        self._log = log
        self._obeyed: dict[str, Stop] = {}  # by token

    def obey(self, orders: Sequence[dict[str, Any]], now: float) -> list[Ended]:
        """Carries out the orders that are new, or have changed: another grace, say.

        Returns the attempts that it ended at once.
        """
        before, self._obeyed = self._obeyed, {}
        attempts = {attempt.claim.token: attempt for attempt in self._pool.workers.held()}
        ended: list[Ended] = []
        for stop in map(Stop.read, orders):
            if (attempt := attempts.get(stop.token)) is None:
                continue  # it has just ended; or its claim is on its way: the next beat repeats it
            is_asked = attempt.killed_at is not None or isinstance(attempt.verdict, Stopped)
            if before.get(stop.token, stop) != stop or not is_asked:
                ended += self._stop(stop, now)
            self._obeyed[stop.token] = stop
        return ended

    def _stop(self, stop: Stop, now: float) -> list[Ended]:
        held = self._pool.workers.held()
        attempt = next((attempt for attempt in held if attempt.claim.token == stop.token), None)
        if attempt is None or not self._pool.stop_prefetch(attempt, now):
            return []  # it has just ended
        self._log.info("job is to stop", **about(attempt.claim), by=stop.by, grace_s=stop.grace_s)
        verdict, worker = Stopped(stop.by), self._pool.workers.by_number[attempt.worker]
        if attempt.started_at is None:
            worker.drop(attempt)
            return [Ended(attempt, Report(verdict))]
        child = worker.stop(verdict, now + stop.grace_s, now)
        if stop.grace_s <= 0:
            self._pool.kill(attempt, verdict, now)
        elif child is not None:
            stop_by_pidfd(child.pidfd)
        return []

    def kill(self, worker: object, now: float) -> None:
        """Ends jobs as if crashed by SIGKILL: the job of a worker, or all jobs for None."""
        for attempt in self._pool.stop_all_prefetch(now):
            is_meant = worker is None or (type(worker) is int and worker == attempt.worker)
            if attempt.started_at is not None and is_meant:
                self._log.warning("job is killed as asked", **about(attempt.claim))
                verdict = Crashed(signal=signal.SIGKILL, sent_by="rqd, for an operator")
                self._pool.kill(attempt, verdict, now)
