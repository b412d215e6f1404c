"""Filters as they are typed: words such as `queue:mail`, and the options that say the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from rqd.cli.completing import complete_queues
from rqd.cli.options import as_typed
from rqd.cli.output import one_line
from rqd.cli.suggest import check_queues
from rqd.model.filter import Filter
from rqd.store.queries import Queries

queues_option = click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    shell_complete=complete_queues,
    help="Choose jobs of this queue.",
)


def filter_of(words: Sequence[str], queues: Sequence[str] = (), **options: str | None) -> Filter:
    """Returns the filter of these words, and of options with their values.

    Raises ConfigurationError, with the option that was typed.
    """
    given = options | {"queue": ",".join(queues)}
    more = [f"{name}:{value}" for name, value in given.items() if value]
    with as_typed():
        return Filter.of_words([*words, *more])


def check_filter(wanted: Filter, views: Queries) -> None:
    """Raises NoSuchNameError unless the filter's queues are known."""
    check_queues(wanted.queue, views)


class Ticker:
    """A line about a long search, on a terminal only: each line replaces the line before."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """Shows the text in place of the line before."""
        if sys.stderr.isatty():
            text = one_line(text)
            click.echo(f"\r{text:<{len(self._shown)}}", err=True, nl=False)
            self._shown = text

    def clear(self) -> None:
        """Removes the line."""
        if self._shown:
            click.echo(f"\r{'':<{len(self._shown)}}\r", err=True, nl=False)
            self._shown = ""


@contextmanager
def ticking() -> Iterator[Ticker]:
    """Gives a ticker that is cleared at the end of the block."""
    ticker = Ticker()
    try:
        yield ticker
    finally:
        ticker.clear()
