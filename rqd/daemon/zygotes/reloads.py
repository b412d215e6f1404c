"""The requests for a reload, and the result of the latest."""

from __future__ import annotations

from dataclasses import dataclass

_REQUESTS_KEPT = 10


@dataclass(slots=True)
class Reload:
    """The latest reload: its result, and the commands that asked for it or for earlier reloads.

    The result also answers the earlier commands, as the code is at least as new.
    """

    requests: tuple[str, ...]  # the last ten ids of commands, "" for a signal; the latest last
    state: str = "booting"  # then done or refused
    error: str = ""

    @property
    def is_under_way(self) -> bool:
        """True until its result is known."""
        return self.state == "booting"

    @property
    def is_refused(self) -> bool:
        """True if it changed nothing: older code serves than is deployed."""
        return self.state == "refused"


class Reloads:
    """The reloads, of which only the latest can be under way."""

    def __init__(self) -> None:
        self.latest: Reload | None = None

    @property
    def is_under_way(self) -> bool:
        """True until the result of the latest is known."""
        return self.latest is not None and self.latest.is_under_way

    def ask(self, request: str) -> None:
        """Begins another reload; `request` is the id of its command, "" for a signal."""
        before = self.latest.requests if self.latest is not None else ()
        self.latest = Reload((*before, request)[-_REQUESTS_KEPT:])

    def succeed(self) -> bool:
        """Marks the reload under way as done; False if no reload is under way."""
        return self._end("done")

    def refuse(self, error: str) -> bool:
        """Marks the reload under way as refused, for this reason; False if none is under way."""
        return self._end("refused", error)

    def _end(self, state: str, error: str = "") -> bool:
        if self.latest is None or not self.is_under_way:
            return False
        self.latest.state, self.latest.error = state, error
        return True
