"""Requests for the stack of a running job: passed to its process, and answered.

The process writes by itself, in a signal handler in C; only the written text shows when it is done.
So the master looks again in a moment, and goes on with its work meanwhile.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from rqd.daemon.control.replies import Replies
from rqd.daemon.timers import Timers
from rqd.daemon.workers.attempt import Attempt
from rqd.daemon.workers.forensics import process_state
from rqd.daemon.workers.pool import Pool
from rqd.model.stack import is_whole, without_own_frames

_LOOK_S = 0.01
# A claim may still be on its way to its child, and a process on its way to a processor.
_LONGEST_S = 1.0
# A stack may end in another way: it counts as complete if nothing more comes for so long.
_QUIET_S = 0.1
# With its quotation marks escaped it fits into a reply of less than 64 KiB.
_MOST_CHARS = 48 * 1024


@dataclass(slots=True)
class _Request:
    """An open request for the stack of an attempt, and the commands that wait for it."""

    job_id: str
    fence: int
    give_up_at: float
    commands: list[dict[str, Any]] = field(default_factory=list)
    is_asked: bool = False  # its process was signalled
    start: int = 0  # the byte at which its stack begins
    seen_bytes: int = 0
    changed_at: float = 0.0


class StackRequests:
    """The requests that are not answered yet."""

    def __init__(self, pool: Pool, replies: Replies, timers: Timers) -> None:
        self._pool = pool
        self._replies = replies
        self._host = socket.gethostname()
        self._open: list[_Request] = []
        self._timer = timers.timer(self._perform)

    def take(self, command: dict[str, Any], now: float) -> dict[str, Any] | None:
        """Asks for the stack of the attempt that the command names.

        Returns an error at once for a command that names no attempt; None if the reply comes later.
        """
        job_id, fence = command.get("job"), command.get("fence")
        if not isinstance(job_id, str) or type(fence) is not int:
            return {"error": "the command names no attempt"}
        for request in self._open:
            if (request.job_id, request.fence) == (job_id, fence):
                request.commands.append(command)  # the stack that is written now serves it as well
                return None
        self._open.append(_Request(job_id, fence, now + _LONGEST_S, [command]))
        self._perform(now)
        return None

    def _perform(self, now: float) -> None:
        """Checks whether the requested stacks have come, and replies."""
        waiting = []
        for request in self._open:
            answer = self._look(request, now)
            if answer is None:
                waiting.append(request)
            for command in request.commands if answer is not None else ():
                self._replies.give(command, answer or {}, now)
        self._open = waiting
        self._timer.set(now + _LOOK_S if waiting else float("inf"))

    def _look(self, request: _Request, now: float) -> dict[str, Any] | None:
        """Returns the reply; None if it is too early to say."""
        attempt = self._pool.workers.attempt_of(request.job_id, request.fence)
        is_late = now >= request.give_up_at
        if attempt is None or attempt.started_at is None:
            if attempt is None and request.is_asked:
                return {"error": "its attempt has just ended"}
            why = "its attempt does not run here" if attempt is None else "it waits for its process"
            return {"error": why} if is_late else None
        if not request.is_asked:
            return self._ask(request, attempt, now)
        text = self._text_of(attempt, request.start)
        if len(text) != request.seen_bytes:
            request.seen_bytes, request.changed_at = len(text), now
        is_quiet = text != "" and now - request.changed_at >= _QUIET_S
        if not (is_whole(text) or is_quiet or is_late):
            return None
        return self._tell(attempt, text)

    def _ask(self, request: _Request, attempt: Attempt, now: float) -> dict[str, Any] | None:
        if not self._pool.stop_prefetch(attempt, now):
            return {"error": "its attempt has just ended"}
        if attempt.started_at is None:
            return None  # its process had not begun it, and gets it again
        child = self._pool.workers.by_number[attempt.worker].child
        start = child.ask_for_stacks() if child is not None else None
        if start is None:
            return {"error": "its process has become another program, or blocks the signal"}
        request.is_asked, request.start = True, start
        request.give_up_at = request.changed_at = now + _LONGEST_S
        return None

    def _tell(self, attempt: Attempt, text: str) -> dict[str, Any]:
        child = self._pool.workers.by_number[attempt.worker].child
        pid = child.pid if child is not None else 0
        answer = {
            "host": self._host,
            "pid": pid,
            "worker": attempt.worker,
            "attempt": attempt.claim.attempt,
        }
        if not text:
            return answer | {"error": f"its process wrote no stack: it {process_state(pid)}"}
        if child is not None and child.stacks is not None and not attempt.is_stack_asked:
            child.stacks.forget()  # else the coming kill needs them
        return answer | {"stack": without_own_frames(text, _MOST_CHARS)}

    def _text_of(self, attempt: Attempt, start: int) -> str:
        """The stacks that its process has written from byte `start` on."""
        child = self._pool.workers.by_number[attempt.worker].child
        stacks = child.stacks if child is not None else None
        return stacks.read(start) if stacks is not None else ""
