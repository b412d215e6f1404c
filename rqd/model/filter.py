"""A filter of jobs, written as words: `state:failed queue:mail cause:crashed since:2h`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

from rqd.model.errors import ConfigurationError
from rqd.model.names import check_job_id, check_name, check_queue_name, parse_duration_s
from rqd.model.numbers import EXACT

# The index of a queue that has the jobs of a state. `failed` are the stopped jobs, too, as in
# all counts.
INDEX_OF_STATE = {
    "failed": "failed",
    "stopped": "failed",
    "finished": "finished",
    "canceled": "canceled",
    "queued": "",
    "started": "started",
    "scheduled": "scheduled",
    "deferred": "deferred",
}
# The kinds of cause, and the text that each begins with: see `outcome.cause`. A lost job ends as
# abandoned.
CAUSES = {
    "raised": "raised ",
    "timed_out": "timed out ",
    "crashed": "crashed: ",
    "out_of_memory": "out of memory: ",
    "refused": "refused: ",
    "stopped": "stopped by ",
    "abandoned": "abandoned: ",
}
OTHER_CAUSE = "other"
_MOST_CHARS = 512
# The value of `frame` for jobs without a frame.
NO_FRAME = "-"


def cause_kind(cause: str) -> str:
    """Returns the kind of a cause, one of CAUSES; `other` for any other text."""
    found = (kind for kind, beginning in CAUSES.items() if cause.startswith(beginning))
    return next(found, OTHER_CAUSE)


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of jobs in a state. Empty texts, and no queues, mean all.

    - `function` is a dotted name, with `*` for any text.
    - `cause` is a kind of CAUSES, `other`, or a text that the cause contains.
    - `type` is the class of the exception that a job raised, with its module or without.
    - `frame` is the innermost frame, `file:line function`, with `*` for any text. A job without a
      frame has that class instead, or `-`.
    - `host` is a host, or a master's name.
    - `since` and `until` limit the end of an ended job, the start of a running job, the enqueue of
      a waiting job: `2h` ago, or an instant of ISO 8601, in UTC unless it has a zone.
    - `id` is the beginning of an id.
    - `is_to_retry` is no word: it leaves stopped jobs out.

    Raises ConfigurationError for a value that can't be.
    """

    state: str = "failed"
    queue: tuple[str, ...] = ()
    function: str = ""
    cause: str = ""
    type: str = ""
    frame: str = ""
    host: str = ""
    since: str = ""
    until: str = ""
    id: str = ""
    is_to_retry: bool = False

    def __post_init__(self) -> None:
        if self.state not in INDEX_OF_STATE:
            states = ", ".join(INDEX_OF_STATE)
            raise ConfigurationError(f"state {self.state!r} is not one of {states}")
        for name in self.queue:
            check_queue_name(name)
        for word in ("function", "cause", "type", "frame"):
            _check_text(word, getattr(self, word))
        if self.host:
            check_name(self.host, "host")
        if self.id:
            check_job_id(self.id, "the beginning of an id")
        for word in ("since", "until"):
            if value := getattr(self, word):
                _instant_us(word, value, 0)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Reads words that stand apart, as `str` writes them; quotes as in a shell.

        Raises ConfigurationError for a word that is none.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ConfigurationError(
                f"filter {text[:_MOST_CHARS]!r}: a quote or a backslash has no end"
            ) from error
        return cls.of_words(words)

    @classmethod
    def of_words(cls, words: Iterable[str]) -> Filter:
        """Reads words such as `queue:mail`, in any order, each once. Raises ConfigurationError."""
        found: dict[str, str | tuple[str, ...]] = {}
        for name, value in map(_split, words):
            if name in found:
                raise ConfigurationError(f"filter word {name}: stands twice: write it once")
            found[name] = tuple(value.split(",")) if name == "queue" else value
        return cls(**found)  # type: ignore[arg-type]  # `_split` lets only the fields' names pass

    def __str__(self) -> str:
        """Writes the words that `parse` reads; leaves out empty words."""
        values = {"queue": ",".join(self.queue)}
        pairs = ((word, values.get(word, getattr(self, word))) for word in WORDS)
        return shlex.join(f"{word}:{value}" for word, value in pairs if value)

    @property
    def index(self) -> str:
        """The index of a queue that has these jobs; empty for the ready set."""
        return INDEX_OF_STATE[self.state]

    @property
    def is_of_ended(self) -> bool:
        """True for jobs that have ended: the latest stand first."""
        return self.state in ("failed", "stopped", "finished", "canceled")

    def to_retry(self) -> Filter:
        """Leaves out stopped jobs, which were meant to end, unless state or cause names them."""
        return self if self.cause else replace(self, is_to_retry=True)

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses that the jobs may have."""
        has_stopped = self.state == "failed" and not self.is_to_retry
        return ("failed", "stopped") if has_stopped else (self.state,)

    def instants_us(self, now_us: int) -> tuple[int, int]:
        """Returns the earliest and the latest instant that match, in microseconds since 1970."""
        earliest_us = _instant_us("since", self.since, now_us) if self.since else 0
        latest_us = _instant_us("until", self.until, now_us) if self.until else EXACT - 1
        return earliest_us, latest_us


WORDS = tuple(one.name for one in fields(Filter) if one.name != "is_to_retry")


def _split(word: str) -> tuple[str, str]:
    name, colon, value = word.partition(":")
    if not colon or name not in WORDS:
        raise ConfigurationError(
            f"{word[:_MOST_CHARS]!r} is no filter word: write {':, '.join(WORDS[:-1])}: or"
            f" {WORDS[-1]}:, and a value behind it"
        )
    if not value:
        raise ConfigurationError(f"filter word {name}: has no value: write {name}:VALUE")
    return name, value


def _check_text(word: str, value: str) -> None:
    if len(value) > _MOST_CHARS or not value.isprintable():
        raise ConfigurationError(
            f"{word} {value[:40]!r} may have {_MOST_CHARS} printable characters at most"
        )


def _instant_us(word: str, value: str, now_us: int) -> int:
    try:
        ago_s = parse_duration_s(value, word)
    except ConfigurationError:
        ago_s = None
    if ago_s is not None and ago_s >= 0:
        return max(0, now_us - int(ago_s * 1e6))
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigurationError(
            f"{word} {value!r} is no time: write 90, 30m, 2h or 3d ago, or an instant such as"
            " 2030-01-31T08:00"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0, int(at.timestamp() * 1e6)), EXACT - 1)
