"""`rqd web`: serves the dashboard."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rqd.cli.grammar import Command
from rqd.cli.options import redis_options
from rqd.cli.output import say
from rqd.cli.variables import WEB_TOKEN, WEB_USER
from rqd.model.errors import ConfigurationError

if TYPE_CHECKING:
    from rqd.web.access import Auth


@click.command(name="web", cls=Command)
@redis_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9181, show_default=True, help="Port; 0: any."
)
@click.option("--read-only", is_flag=True, help="Serve no actions.")
@click.option(
    "--user-file",
    metavar="FILE",
    help=f"File of NAME:PASSWORD lines that may log in.  [default: {WEB_USER}, a single one]",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help=f"File of a token, for `Authorization: Bearer`.  [default: {WEB_TOKEN}]",
)
@click.option(
    "--api-tokens",
    metavar="FILE",
    help="Serve the HTTP API to the tokens of this file; `rqd api-token` makes them.",
)
@click.option("--root-path", default="", metavar="PATH", help="Path at which a proxy mounts it.")
def command(
    url: str | None,
    namespace: str | None,
    host: str,
    port: int,
    read_only: bool,
    user_file: str | None,
    token_file: str | None,
    api_tokens: str | None,
    root_path: str,
) -> None:
    """Serve the dashboard in the browser.

    Without users or a token it listens at the loopback address only.
    """
    try:
        import uvicorn  # noqa: PLC0415 - of the extra, as all below

        from rqd.web import app  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ConfigurationError(
            f"the dashboard needs {error.name}, which is not installed: pip install 'rqd[web]'"
        ) from error
    from rqd.web.guard import LOOPBACK  # noqa: PLC0415 - as above

    auth = _auth(user_file, token_file)
    is_local = _is_loopback(host)
    if not is_local and auth is None:
        raise ConfigurationError(
            f"--host {host} lets other hosts in: give --user-file or --token-file"
            f" ({WEB_USER}=NAME:PASSWORD, {WEB_TOKEN}), or listen at 127.0.0.1"
        )
    hosts = LOOPBACK if is_local else None
    served = app(url, namespace, auth=auth, read_only=read_only, hosts=hosts, api_tokens=api_tokens)
    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        root_path=root_path.rstrip("/"),
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    _serve(uvicorn.Server(config), host)


def _serve(server: Any, host: str) -> None:
    bound = server.config.bind_socket()
    bound.listen()  # whoever reads the address may connect at once, and waits for the first answer
    port = bound.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    say(f"dashboard: http://{shown}:{port}{server.config.root_path}/ (Ctrl-C ends it)")
    server.run(sockets=[bound])


def _auth(user_file: str | None, token_file: str | None) -> Auth | None:
    from rqd.web.access import Basic, Bearer  # noqa: PLC0415 - of the extra

    users = _from(user_file, "--user-file", WEB_USER)
    token = _from(token_file, "--token-file", WEB_TOKEN)
    if users and token:
        raise ConfigurationError("--user-file and --token-file: choose one of the two")
    if token:
        return Bearer(token)
    if users:
        return Basic(dict(map(_user, filter(None, map(str.strip, users.splitlines())))))
    return None


def _user(line: str) -> tuple[str, str]:
    name, colon, password = line.partition(":")
    if not (name and colon and password):
        raise ConfigurationError("a user of the dashboard: write NAME:PASSWORD")
    return name, password


def _from(path: str | None, option: str, variable: str) -> str:
    if path is None:
        return os.environ.get(variable, "").strip()
    try:
        found = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{option} {path}: cannot be read: {error}") from error
    if not found:
        raise ConfigurationError(f"{option} {path}: the file is empty")
    return found


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
