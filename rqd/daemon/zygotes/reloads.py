"""The reloads that were asked for: who asked, and what became of the latest."""

from __future__ import annotations

from dataclasses import dataclass

_REQUESTS_KEPT = 10


@dataclass(slots=True)
class Reload:
    """The latest reload: what became of it, and which commands asked for it or those before.

    Who asked for an earlier one is told of the latest, whose code is at least as new.
    """

    requests: tuple[str, ...]  # ids of commands, "" for a signal; the latest last
    state: str = "booting"  # then done or refused
    error: str = ""


class Reloads:
    """One is under way at a time: the latest."""

    def __init__(self) -> None:
        self.latest: Reload | None = None

    @property
    def is_under_way(self) -> bool:
        """True until it is known what becomes of the latest."""
        return self.latest is not None and self.latest.state == "booting"

    @property
    def is_refused(self) -> bool:
        """True if the latest changed nothing: older code serves than is deployed."""
        return self.latest is not None and self.latest.state == "refused"

    def ask(self, request: str) -> None:
        """Another one begins."""
        before = self.latest.requests if self.latest is not None else ()
        self.latest = Reload((*before, request)[-_REQUESTS_KEPT:])

    def succeed(self) -> bool:
        """The one under way is done; False if none is."""
        return self._end("done")

    def refuse(self, error: str) -> bool:
        """The one under way changes nothing, for this reason; False if none is."""
        return self._end("refused", error)

    def _end(self, state: str, error: str = "") -> bool:
        if self.latest is None or not self.is_under_way:
            return False
        self.latest.state, self.latest.error = state, error
        return True
