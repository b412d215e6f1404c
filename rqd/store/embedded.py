"""Locates the server behind an `embedded:` URL; clients and masters agree by these rules alone.

`embedded:` is the user's own folder, `embedded:DIR` any other. DIR is used literally, as typed:
nothing in it is percent-decoded, and it has no query.
"""

import os
from pathlib import Path
from urllib.parse import quote

from rqd.model.errors import ConfigurationError

SOCKET_NAME = "redis.sock"
# sockaddr_un.sun_path holds 108 bytes on Linux, one of them the closing NUL.
SOCKET_PATH_LIMIT_BYTES = 107


def is_embedded(url: str) -> bool:
    """True if `url` names an embedded server: `embedded:`, `embedded:DIR`, `embedded://DIR`."""
    scheme, colon, _ = url.partition(":")
    return bool(colon) and scheme.lower() == "embedded"


def embedded_dir(url: str) -> Path:
    """Returns the absolute folder of the server that `url` names; it need not exist yet.

    Without a DIR that is `$XDG_STATE_HOME/rqd`, else `~/.local/state/rqd`. A relative DIR starts at
    the current folder.

    Raises ConfigurationError if `url` is no embedded URL, or its folder cannot be worked out.
    """
    if not is_embedded(url):
        raise ConfigurationError(f"not an embedded server's URL: {url!r} (write embedded:DIR)")
    folder = url.partition(":")[2].removeprefix("//")
    if folder.startswith("//"):
        folder = "/" + folder.lstrip("/")
    if "\0" in folder:
        raise ConfigurationError(f"a folder's name cannot hold a NUL: {url!r}")
    try:
        path = Path(folder).expanduser() if folder else state_home() / "rqd"
        # Not resolve(): a short symlink may be there just to keep the socket's path short.
        return path.absolute()
    except (RuntimeError, FileNotFoundError) as error:
        # No home for `~`, or the current folder was removed.
        raise ConfigurationError(
            f"cannot tell the folder of {url!r}: {error}; write embedded:/an/absolute/DIR"
        ) from error


def embedded_socket(url: str) -> Path:
    """Returns the unix socket of the server that `url` names.

    Raises ConfigurationError as `embedded_dir` does, or if the path is too long for a unix socket.
    """
    return socket_in(embedded_dir(url))


def embedded_redis_url(url: str) -> str:
    """Returns the `unix://` URL under which redis-py reaches the server that `url` names.

    Raises ConfigurationError as `embedded_socket` does, or if the path is not UTF-8, which redis-py
    needs.
    """
    path = str(embedded_socket(url))
    try:
        return f"unix://{quote(path)}?db=0"
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{path!r} is not UTF-8; choose another DIR") from error


def socket_in(directory: Path) -> Path:
    """Returns the unix socket of the server in `directory`.

    Raises ConfigurationError if the path is longer than a unix socket's address can be.
    """
    socket_path = directory / SOCKET_NAME
    size_bytes = len(os.fsencode(socket_path))
    if size_bytes > SOCKET_PATH_LIMIT_BYTES:
        raise ConfigurationError(
            f"{socket_path} has {size_bytes} bytes and a unix socket's path at most "
            f"{SOCKET_PATH_LIMIT_BYTES}: choose a shorter DIR (embedded:DIR)"
        )
    return socket_path


def state_home() -> Path:
    """Returns the user's folder for programs' state: `$XDG_STATE_HOME`, else `~/.local/state`.

    Raises RuntimeError if there is no home.
    """
    configured = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification has a relative value ignored.
    if os.path.isabs(configured):
        return Path(configured)
    return Path("~/.local/state").expanduser()
