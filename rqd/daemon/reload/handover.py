"""What a master hands over to the newer one that is executed in its place, in the same process.

It is JSON in a file without a name: nothing in it can be executed, and nobody else can read it (it
holds the signing keys). What is not in it, open descriptors above all, stays as it is through an
exec: the pipes by which a master's death kills its jobs never close on the way.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from rqd import __version__
from rqd.daemon.config import Config, LogSettings
from rqd.daemon.processes.children import ChildrenState
from rqd.daemon.processes.forensics import Tail
from rqd.daemon.processes.mailbox import Mailbox
from rqd.daemon.processes.news import News
from rqd.daemon.processes.segments import Segments
from rqd.daemon.processes.worker import Child, Run, Worker
from rqd.daemon.processes.zygote_process import ZygoteState
from rqd.daemon.processes.zygote_reloads import Reload
from rqd.daemon.processes.zygotes import ZygotesState
from rqd.daemon.zygote.frames import FORMAT, FrameReader
from rqd.model.errors import ConfigurationError
from rqd.model.outcome import Crashed, Lost, OutOfMemory, Raised, Released, Stopped, TimedOut
from rqd.model.records import Claim, Envelope
from rqd.model.resources import ResourceLimits

_VARIABLE = "RQD_HANDOVER"
_READ_ANEW = {"crons"}


@dataclass(frozen=True, slots=True)
class Handover:
    """A master between two of its turns. Instants are monotonic: they hold on in the next one."""

    format: int
    version: str
    is_trial: bool  # only to see whether it can be read
    request: str  # of the command that asked for the upgrade
    config: Config
    instance: dict[str, Any]
    embedded: dict[str, Any] | None
    dispatch: dict[str, Any]
    obeyed: str
    is_suspended: bool
    worked_at: float
    children: ChildrenState
    fds: tuple[int, ...]  # all that stay open
    authentication: dict[str, Any] = field(default_factory=dict)


_KNOWN: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        *(
            Handover,
            Config,
            LogSettings,
            ResourceLimits,
            ChildrenState,
            ZygotesState,
            ZygoteState,
            Reload,
        ),
        *(Worker, Child, Tail, Segments, Run, News, Claim, Envelope),
        *(Crashed, Lost, OutOfMemory, Raised, Released, Stopped, TimedOut),
        *(bytearray, memoryview),
    )
}


def write(handover: Handover) -> int:
    """A new file without a name that holds it. Raises TypeError for what has no form there."""
    data = json.dumps(handover, default=_plain).encode()
    fd = os.memfd_create("rqd-handover")
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def environment_with(fd: int) -> dict[str, str]:
    """This process's environment, for a master that is to find the file there."""
    return {**os.environ, _VARIABLE: str(fd)}


def receive(environment: MutableMapping[str, str]) -> Handover | None:
    """What an earlier master has left for this process; None at an ordinary start.

    Raises ConfigurationError where it can't be gone on with.
    """
    told = environment.pop(_VARIABLE, None)
    if told is None:
        return None
    with open(int(told), "rb") as file:
        file.seek(0)
        return read(file.read())


def read(data: bytes) -> Handover:
    """Raises ConfigurationError for what is of another format, or of no form known here."""
    told = json.loads(data)
    theirs, version = told.get("format"), told.get("version")
    if theirs != FORMAT:
        raise ConfigurationError(
            f"rqd {__version__} can't go on where {version} is (formats {FORMAT} and {theirs}):"
            " restart the daemon"
        )
    # The sockets of a master that is only tried are not there.
    made = _placeless if told["is_trial"] else _socket_of
    try:
        handover = json.loads(data, object_hook=lambda one: _object(one, made))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"rqd {__version__} can't go on where {version} is ({type(error).__name__}: {error}):"
            " restart the daemon"
        ) from error
    assert isinstance(handover, Handover)
    return handover


def _plain(value: Any) -> dict[str, Any]:
    """For what is no JSON by itself: its type's name, and what it is made of."""
    if is_dataclass(value) and type(value).__name__ in _KNOWN:
        names = [one.name for one in fields(value) if one.name not in _READ_ANEW]
        told = {"is": type(value).__name__, **{name: getattr(value, name) for name in names}}
        if isinstance(value, Run) and value.sent_at is not None:
            told["claim"] = replace(value.claim, payload=None)  # its child has it, or its outbox
        return told
    if isinstance(value, bytes | bytearray | memoryview):
        return {"is": type(value).__name__, "base64": base64.b64encode(value).decode()}
    if isinstance(value, Mailbox):
        return {"is": "Mailbox", "fds": value.fds}
    if isinstance(value, socket.socket):
        return {"is": "socket", "fd": value.fileno()}
    if isinstance(value, FrameReader):
        return {"is": "FrameReader", "most": value.max_bytes, "rest": value.rest}
    if type(value).__name__ == "Keyring":
        return {"is": "Keyring", "secrets": value.secrets}
    raise TypeError(f"{type(value).__name__} can't be handed over")


def _object(told: dict[str, Any], socket_of: Callable[[int], Any]) -> Any:
    match told.pop("is", None):
        case None:
            return told
        case "bytes":
            return base64.b64decode(told["base64"])
        case "bytearray" | "memoryview" as name:
            return _KNOWN[name](base64.b64decode(told["base64"]))
        case "Keyring":
            from rqd.model.signing import Keyring  # noqa: PLC0415 - loaded with the keys, if any

            return Keyring(told["secrets"])
        case "socket":
            return socket_of(told["fd"])
        case "Mailbox":
            return Mailbox(*told["fds"]) if socket_of is _socket_of else None
        case "FrameReader":
            reader = FrameReader(told["most"])
            reader.feed(told["rest"])
            return reader
        case name:
            return _KNOWN[name](**{key: _frozen(value) for key, value in told.items()})


def _frozen(value: Any) -> Any:
    """JSON knows no tuples; nothing that is handed over has a list."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _socket_of(fd: int) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
    found.setblocking(False)
    return found


def _placeless(_fd: int) -> None:
    return None
