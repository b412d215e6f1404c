"""Sends commands to masters, on any host, and reads their answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rqd.model.numbers import read_whole
from rqd.model.words import counted
from rqd.store.live import ANSWER_WITHIN_S, Sent, ask, send

if TYPE_CHECKING:
    from rqd.client.connection import Backend

Row = dict[str, str]


@dataclass(slots=True)
class Reply:
    """A master's answer to a command, None without one, and the outcome seen since."""

    master: str
    host: str
    answer: dict[str, Any] | None
    outcome: str = ""  # nothing was waited for, or nothing is seen yet
    is_well: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_well = self.answer is not None and "error" not in self.answer

    def end(self, outcome: str, is_well: bool = True) -> None:
        """Notes the outcome; `is_well` is False for a master that will never do it."""
        self.outcome = outcome
        self.is_well = self.is_well and is_well

    @property
    def words(self) -> str:
        """The answer, for people."""
        if self.answer is None:
            return "no answer"
        if "error" in self.answer:
            return f"refused: {self.answer['error']}"
        words = f"{self.answer.get('state')}, {self.answer.get('busy')} running"
        if "were" in self.answer:
            return f"{counted(self.answer.get('workers'), 'worker')}, had {self.answer['were']}"
        return words


def as_of_now(there: Backend, rows: Sequence[Row]) -> dict[str, Row]:
    """Returns the rows of the masters among these that are still alive, by name.

    A restarted master with the same name (another boot id) does not count.
    """
    boots = {row["name"]: row.get("boot") for row in rows}
    found = {row["name"]: row for row in there.views.masters() if row["name"] in boots}
    return {name: row for name, row in found.items() if row.get("boot") == boots[name]}


def tell(there: Backend, rows: Sequence[Row], do: str) -> tuple[str, Sent]:
    """Sends a command that is not answered; returns its id, and the masters that got it."""
    request = os.urandom(8).hex()
    names = [row["name"] for row in rows]
    return request, send(there.store, {"id": request, "do": do}, names, there.keyring)


def ask_masters(
    there: Backend, rows: Sequence[Row], do: str, timeout_s: float | None = None, **more: Any
) -> list[Reply]:
    """Sends a command to masters; returns a reply each, also for a master without an answer."""
    within_s = ANSWER_WITHIN_S if timeout_s is None else min(timeout_s, ANSWER_WITHIN_S)
    names = [row["name"] for row in rows]
    answers = ask(there.store, there.views, {"do": do, **more}, names, within_s, there.keyring)
    hosts = {row["name"]: row.get("host", "") for row in rows}
    return [Reply(name, hosts[name], answer) for name, answer in answers.items()]


def reload_reply(master: str, host: str, row: Row | None) -> Reply:
    """Makes the reply to a reload from the master's row; None for a master that is gone."""
    return Reply(master, host, _reload_answer(row), _reload_outcome(row))


def is_reloading(row: Row, request: str) -> bool:
    """True if a master has not read the request yet, or its zygote is still booting."""
    return request not in row.get("reload_requests", "").split() or row.get("reload") == "booting"


def _reload_answer(row: Row | None) -> dict[str, Any] | None:
    """Converts a master's row to the form of the answers to other commands; None without a row."""
    if row is None:
        return None
    answer: dict[str, Any] = {"state": row.get("state", "")}
    # Its row's `workers` also counts workers that are on their way out.
    numbers = (("busy", "busy"), ("workers", "wanted"))
    answer |= {name: read_whole(row.get(of)) or 0 for name, of in numbers}
    if row.get("reload") != "done":
        answer["error"] = row.get("reload_error", "")
    return answer


def _reload_outcome(row: Row | None) -> str:
    if row is None:
        return "gone"
    return "reloaded" if row.get("reload") == "done" else "refused"
