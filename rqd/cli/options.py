"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from rqd.cli.near import near_job
from rqd.cli.settings import config_option
from rqd.connection import Backend, own_keyring
from rqd.model.errors import NoSuchJobError
from rqd.store.connection import client_connection, default_namespace, default_url, explained
from rqd.store.store import Store

_url = click.option(
    "--url",
    "-u",
    metavar="URL",
    envvar="RQD_URL",
    help="Redis to use: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://,"
    " embedded: or embedded:FOLDER."
    "  [default: RQD_URL, REDIS_URL, or localhost:6379]",
)
_namespace = click.option(
    "--namespace",
    metavar="NAME",
    envvar="RQD_NAMESPACE",
    help="What all keys start with.  [default: RQD_NAMESPACE or rqd]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def redis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`, `--namespace` and `--config`."""
    return _url(_namespace(config_option(command)))


@contextmanager
def backend(url: str | None, namespace: str | None, *, signs: bool = False) -> Iterator[Backend]:
    """A backend for one command; a server that can't be reached becomes one line.

    Only a command that `signs` wants the signing keys: the others unpickle nothing.
    """
    keyring = own_keyring() if signs else None
    target = url or default_url()
    store = Store(client_connection(target), namespace or default_namespace())
    there = Backend(store, target, keyring)
    with explained(target):
        try:
            yield there
        except NoSuchJobError as error:
            if hint := near_job(error.job_id, there.views):
                raise NoSuchJobError(f"no job {error.job_id!r}{hint}") from error
            raise
