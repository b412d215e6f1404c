"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import click

from rqd.cli.grammar import SharedOption
from rqd.cli.settings import redis_options as redis_options
from rqd.client.connection import Backend, own_keyring
from rqd.model.errors import ConfigurationError, InvalidCallError
from rqd.store.connection import client_connection, translate_errors
from rqd.store.store import Store
from rqd.store.urls import default_namespace, default_url

as_json = click.option("--json", "as_json", cls=SharedOption, is_flag=True, help="Print JSON.")
serializer_option = click.option(
    "--serializer",
    "-S",
    default="pickle",
    show_default=True,
    help="Serializer: pickle, json or a dotted path.",
)

log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json", "journal"]),
    default="auto",
    metavar="FORMAT",
    help="Format of the log: text, json or journal.  [default: by the kind of stderr]",
)
log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    metavar="LEVEL",
    help="Lowest level to log: debug, info, warning, error.",
)

# `Retry(max=-1)`, with a single plain value.
_OF_RETRY = re.compile(r"Retry\((\w+)=([^\s,()]+)\)")


@contextmanager
def as_typed() -> Iterator[None]:
    """Replaces an argument's name in Python at the start of an error by the option typed.

    Such an error becomes a ConfigurationError.
    """
    try:
        yield
    except (ConfigurationError, InvalidCallError) as error:
        flags = {
            option.name: max(option.opts, key=len)
            for option in click.get_current_context().command.params
            if isinstance(option, click.Option)
        }
        message = str(error)
        if retry := _OF_RETRY.match(message):
            name, value = f"retry_{retry[1]}", f" {retry[2]}"
            message = f"{name}{value}{message[retry.end() :]}"
        word = message.partition(" ")[0]
        if word not in flags:
            raise
        raise ConfigurationError(message.replace(word, flags[word], 1)) from error


@contextmanager
def backend(url: str | None, namespace: str | None, *, signs: bool = False) -> Iterator[Backend]:
    """Opens a backend for a command; an unreachable server becomes an error of a single line.

    Only a command that `signs` needs the signing keys: the other commands unpickle nothing.
    """
    keyring = own_keyring() if signs else None
    target = url or default_url()
    store = Store(client_connection(target), namespace or default_namespace())
    there = Backend(store, target, keyring)
    with translate_errors(target):
        yield there
