"""The daemon's log: an event a transition, with a constant text and fields; and the jobs' output.

It does not use `logging`: a paused terminal or a pipe without a reader must never stop the master.
So bytes that can't be written at once are dropped and counted. docs/logging.md lists the events.
"""

from __future__ import annotations

import os
from dataclasses import replace

from rqd.daemon.config import LogSettings
from rqd.daemon.log.formats import (
    DEBUG,
    ERROR,
    INFO,
    LEVEL_NAMES,
    WARNING,
    Format,
    JournalFormat,
    JsonFormat,
    TextFormat,
)
from rqd.daemon.log.sinks import Sink, file_sink, is_journal, journal_sink, shared_sink
from rqd.model.errors import ConfigurationError
from rqd.model.outcome import AskedAgain, Outcome, Raised, cause
from rqd.model.records import Claim
from rqd.model.words import has_colours

_STDERR = 2


class Log:
    """Writes events of the wanted levels. They never hold job arguments or secrets."""

    def __init__(self, sink: Sink, form: Format, settings: LogSettings | None = None) -> None:
        self._master = ""
        self._use(sink, form, settings or LogSettings())

    def _use(self, sink: Sink, form: Format, settings: LogSettings) -> None:
        self._sink, self._form, self._settings = sink, form, settings
        self._wanted = settings
        form.master = self._master
        self._lowest = LEVEL_NAMES.index(settings.level)

    def reopen(self, settings: LogSettings | None = None) -> None:
        """Opens the log again, as its file may have been moved, by new `settings` if given.

        If that fails, the old log stays and gets a warning; the next call tries again.
        """
        self._wanted = wanted = settings or self._wanted
        try:
            sink, form = _open(wanted)
        except ConfigurationError as error:
            self.warning("log can't be opened anew, the old one serves on", error=error)
            return
        sink.dropped_bytes = self._sink.dropped_bytes  # reported in the new log, if not yet
        self._sink.close()
        self._use(sink, form, wanted)

    def name_master(self, name: str) -> None:
        """Adds the master's name to all records from now on, in JSON and journal."""
        self._master = self._form.master = name

    def debug(self, text: str, **fields: object) -> None:
        """Logs a step of a job on its usual way."""
        if self._lowest <= DEBUG:
            self._write(DEBUG, text, fields)

    def info(self, text: str, **fields: object) -> None:
        """Logs an event of the daemon's normal life."""
        if self._lowest <= INFO:
            self._write(INFO, text, fields)

    def warning(self, text: str, **fields: object) -> None:
        """Logs an event that is handled, and that an operator may want to see."""
        if self._lowest <= WARNING:
            self._write(WARNING, text, fields)

    def error(self, text: str, **fields: object) -> None:
        """Logs that work was lost, or can't go on."""
        self._write(ERROR, text, fields)

    def output(self, lines: bytes, **fields: object) -> None:
        """Writes whole lines that a process printed, at any level; `fields` name the process."""
        if self._settings.job_output == "none" and "worker" in fields:
            return
        self._tell_loss()
        self._sink.write(self._form.output(lines, fields))

    def cause(self, outcome: Outcome) -> str:
        """Returns the cause; without a job's own message, if the log has no output of jobs.

        Such a message may hold arguments.
        """
        if self._settings.job_output == "none" and isinstance(outcome, Raised | AskedAgain):
            outcome = replace(outcome, message="")
        return cause(outcome)

    def traceback(self, outcome: Outcome) -> str:
        """Returns the traceback of a job's exception; empty if the log has no output of jobs."""
        if self._settings.job_output == "none":
            return ""
        return getattr(outcome, "traceback", "")

    def _write(self, level: int, text: str, fields: dict[str, object]) -> None:
        self._tell_loss()
        self._sink.write(self._form.event(level, text, fields))

    def _tell_loss(self) -> None:
        """Reports the bytes that were dropped, as soon as the sink accepts a record again."""
        lost_bytes = self._sink.dropped_bytes
        if lost_bytes and self._lowest <= WARNING:
            self._sink.dropped_bytes = 0
            fields = {"lost_bytes": lost_bytes}
            self._sink.write(self._form.event(WARNING, "log was not read, a part is lost", fields))
            if self._sink.dropped_bytes:
                self._sink.dropped_bytes = lost_bytes


def open_log(settings: LogSettings) -> Log:
    """Opens the log of a master that starts. Raises ConfigurationError if it can't."""
    sink, form = _open(settings)
    return Log(sink, form, settings)


def about(claim: Claim) -> dict[str, object]:
    """Returns the fields by which each event names its job and attempt."""
    return {
        "job_id": claim.id,
        "func": claim.func_name,
        "queue": claim.queue,
        "attempt": claim.attempt,
    }


def _open(settings: LogSettings) -> tuple[Sink, Format]:
    chosen = settings.format
    is_terminal = settings.file is None and os.isatty(_STDERR)
    if chosen == "auto":
        is_under_systemd = settings.file is None and is_journal(_STDERR)
        chosen = "text" if is_terminal else "journal" if is_under_systemd else "json"
    prefixes = settings.job_output == "prefix"
    if chosen == "journal":
        return journal_sink(), JournalFormat(prefixes=prefixes)
    sink = shared_sink(_STDERR) if settings.file is None else file_sink(settings.file)
    if chosen == "json":
        return sink, JsonFormat()
    # A terminal's reader knows the date; the journal stamps each line itself.
    clock = "%H:%M:%S " if is_terminal else "%Y-%m-%d %H:%M:%S "
    if settings.file is None and is_journal(_STDERR):
        clock = ""
    return sink, TextFormat(clock, colours=is_terminal and has_colours(), prefixes=prefixes)
