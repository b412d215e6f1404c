"""Runs coroutine jobs in the child, one after the other, in an event loop that may outlive them.

Every fork pays for its imports; asyncio is imported by the first coroutine.
"""

from __future__ import annotations

from _thread import get_ident

from rqd.model.errors import JobStoppedException, JobTimeoutException

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from typing import Any


class EventLoop:
    """The event loop for the coroutine jobs of a process: a new one for each job, or a kept one.

    A kept loop lives on after a job, for the next. So clients and pools that a module keeps for its
    loop serve all jobs of the process. Tasks that a job leaves behind live on, too.
    """

    __slots__ = ("_keeper", "_kept")

    def __init__(self) -> None:
        self._kept: asyncio.Runner | None = None
        self._keeper = 0

    def keep(self) -> None:
        """Keeps the loop of this thread, here and in forks, from now on."""
        self._keeper = get_ident()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Awaits the coroutine, and returns its value."""
        import asyncio  # noqa: PLC0415 - late: only jobs that are coroutine functions pay for it

        if get_ident() != self._keeper:  # nothing is kept, or a job's thread runs a job inline
            with asyncio.Runner() as runner:
                return _run(runner, coroutine)
        self._kept = self._kept or asyncio.Runner()
        try:
            return _run(self._kept, coroutine)
        except (JobTimeoutException, JobStoppedException):
            self.close()  # it was interrupted anywhere, and may have lost a callback
            raise

    def close(self) -> None:
        """Ends the kept loop, if there is one: cancels its tasks, and ends async generators."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def _run(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return runner.run(coroutine)
    except (JobTimeoutException, JobStoppedException) as error:
        # The exception rose in the event loop, whose frames do not show where the job was.
        if awaited := awaited_lines(coroutine):
            error.add_note(f"the coroutine awaited:\n{awaited}")
        raise


event_loop = EventLoop()


def awaited_lines(coroutine: Any) -> str:
    """Returns where the coroutine is, and the coroutines it awaits, as lines of a traceback.

    Empty if it has ended.
    """
    lines = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}')
        coroutine = coroutine.cr_await
    return "\n".join(lines)
