"""What an application has once it is imported that is not fit for a fork: threads and connections.

A fork has but the thread that made it (fork(2)), so what waits for another one's work waits for
ever. A connection it shares with all other forks: two that use it get each other's answers.
"""

from __future__ import annotations

import os
import sys
from _socket import SOCK_STREAM, socket

# Names of threads, or addresses, that are told of a module; more would be a wall of text.
_MOST_NAMES = 8


class ImportWatch:
    """Notes what there is more than there was, by the module whose import has brought it."""

    def __init__(self) -> None:
        self._threads = dict.fromkeys(os.listdir("/proc/self/task"), "")
        self._connections = dict.fromkeys(_connections(), "")
        self._errors: dict[str, str] = {}

    def note(self, module: str) -> None:
        """This one was imported since the last call: what is new is its own."""
        for thread in os.listdir("/proc/self/task"):
            self._threads.setdefault(thread, module)
        for connection in _connections():
            self._connections.setdefault(connection, module)

    def note_error(self, module: str, error: BaseException) -> None:
        """Its import has failed, which is no reason not to boot."""
        try:
            self._errors[module] = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - a user's __str__
            self._errors[module] = type(error).__name__

    def told(self) -> list[bytes]:
        """What is still there, of each module four texts: its name, its threads' names, where its
        connections lead to, and why it could not be imported.
        """
        names, peers = _names_of_threads(), _connections()
        threads = [*names.keys() & self._threads]
        open_still = [*peers.keys() & self._connections]
        modules = {*map(self._threads.get, threads), *map(self._connections.get, open_still)}
        modules |= self._errors.keys()
        told: list[bytes] = []
        for module in sorted(filter(None, modules)):
            of_threads = [names[one] for one in threads if self._threads[one] == module]
            of_peers = [peers[one] for one in open_still if self._connections[one] == module]
            error = self._errors.get(module, "").encode(errors="replace")
            told += (module.encode(), _listed(of_threads), _listed(of_peers), error)
        return told


def _names_of_threads() -> dict[str, str]:
    """By their ids in the kernel; Python knows no names of those that C libraries have started."""
    python = {}
    if threading := sys.modules.get("threading"):  # else nobody has started any by it
        python = {str(one.native_id): one.name for one in threading.enumerate()}
    return {one: python.get(one, "unnamed") for one in os.listdir("/proc/self/task")}


def _connections() -> dict[str, str]:
    """By their inodes, where they lead to: streams that have a peer with an address."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
            if link.startswith("socket:") and (peer := _peer(int(fd))):
                found[link] = peer
        except OSError:
            continue  # the one by which the list was read, or another's that is being closed
    return found


def _peer(fd: int) -> str:
    near = socket(fileno=os.dup(fd))
    try:
        peer = near.getpeername() if near.type == SOCK_STREAM else ""
    finally:
        near.close()
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return os.fsdecode(peer)  # a path; empty for one of a pair, such as an event loop's own


def _listed(names: list[str]) -> bytes:
    counts = {name: names.count(name) for name in sorted(names)}
    shown = [name if count == 1 else f"{name} ({count} times)" for name, count in counts.items()]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[:_MOST_NAMES], f"and {len(shown) - _MOST_NAMES} more"]
    return ", ".join(shown).encode(errors="replace")
