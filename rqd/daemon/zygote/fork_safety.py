"""Finds threads and connections that an import has left, which are not safe to fork.

A fork has only the thread that made it (fork(2)): code that waits for another thread waits for
ever. All forks share a connection: two that use it get each other's answers.
"""

from __future__ import annotations

import os
import sys
import time
from _socket import SOCK_STREAM, socket

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Sequence

# Names of threads, or addresses, reported of a module; more would be a wall of text.
_MOST_NAMES = 8
# A thread that was joined is the kernel's for some moments more, without a name.
_ENDING_S, _LOOK_S = 0.1, 0.001


class ImportWatch:
    """Notes new threads and connections, by the module whose import made them."""

    def __init__(self) -> None:
        self._threads = dict.fromkeys(os.listdir("/proc/self/task"), "")
        self._connections = dict.fromkeys(_connections(), "")
        self._errors: dict[str, str] = {}

    def note(self, module: str) -> None:
        """Notes threads and connections since the last call as this module's, just imported."""
        for thread in os.listdir("/proc/self/task"):
            self._threads.setdefault(thread, module)
        for connection in _connections():
            self._connections.setdefault(connection, module)

    def note_error(self, module: str, error: BaseException) -> None:
        """Notes that the module's import has failed."""
        try:
            self._errors[module] = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - a user's __str__
            self._errors[module] = type(error).__name__

    def threads(self) -> dict[str, list[str]]:
        """Returns the names of the threads that modules have left and that run, by module."""
        return _by_module(self._threads, self._names_of_lasting_threads())

    def connections(self) -> dict[str, list[str]]:
        """Returns the peers of the connections that modules have left open, by module."""
        return _by_module(self._connections, _connections())

    def report(self) -> list[bytes]:
        """Returns four texts for each module that left threads or connections, or failed.

        The texts: its name, its threads' names, its connections' peers, why its import failed.
        """
        threads, peers, errors = self.threads(), self.connections(), self._errors
        texts: list[bytes] = []
        for module in sorted({*threads, *peers, *errors}):
            texts += module.encode(), _listed(threads.get(module, ()))
            texts += _listed(peers.get(module, ())), errors.get(module, "").encode(errors="replace")
        return texts

    def _names_of_lasting_threads(self) -> dict[str, str]:
        """Returns the names as below, without unnamed threads that end within 0.1 s."""
        give_up_at = time.monotonic() + _ENDING_S
        while True:
            names = _names_of_threads()
            unnamed = (one for one, name in names.items() if name == "unnamed")
            if time.monotonic() > give_up_at or not any(map(self._threads.get, unnamed)):
                return names
            time.sleep(_LOOK_S)


def report_imports(modules: Sequence[str]) -> None:
    """Imports each module, prints the findings as a Python literal, and ends the process.

    A finding: the module, the seconds of its import, its numbers of threads and connections. For
    `rqd doctor`, which starts a process for it.
    """
    watch, seconds = ImportWatch(), {}
    for module in modules:
        begun = time.monotonic()
        __import__(module)
        seconds[module] = time.monotonic() - begun
        watch.note(module)
    threads, peers = watch.threads(), watch.connections()
    found = [
        (module, took_s, len(threads.get(module, ())), len(peers.get(module, ())))
        for module, took_s in seconds.items()
    ]
    sys.stdout.write(f"\n{found!r}")
    sys.stdout.flush()
    os._exit(0)  # threads that were started would keep this process for ever


def _by_module(homes: dict[str, str], labels: dict[str, str]) -> dict[str, list[str]]:
    """Groups the labels by the module that left the thread or connection, if a module did."""
    found: dict[str, list[str]] = {}
    for key, label in labels.items():
        if module := homes.get(key):
            found.setdefault(module, []).append(label)
    return found


def _names_of_threads() -> dict[str, str]:
    """Returns threads' names by kernel id; `unnamed` for threads that Python did not start."""
    python = {}
    if threading := sys.modules.get("threading"):  # else no thread was started by it
        python = {str(one.native_id): one.name for one in threading.enumerate()}
    return {one: python.get(one, "unnamed") for one in os.listdir("/proc/self/task")}


def _connections() -> dict[str, str]:
    """Returns peers by the socket's link: of streams whose peer has an address."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
            if link.startswith("socket:") and (peer := _peer(int(fd))):
                found[link] = peer
        except OSError:
            continue  # the listing's own descriptor, or closed by another thread
    return found


def _peer(fd: int) -> str:
    near = socket(fileno=os.dup(fd))
    try:
        peer = near.getpeername() if near.type == SOCK_STREAM else ""
    finally:
        near.close()
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return os.fsdecode(peer)  # a path; empty for a socket pair, such as an event loop's


def _listed(names: Sequence[str]) -> bytes:
    counts = {name: names.count(name) for name in sorted(names)}
    shown = [name if count == 1 else f"{name} ({count} times)" for name, count in counts.items()]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[:_MOST_NAMES], f"and {len(shown) - _MOST_NAMES} more"]
    return ", ".join(shown).encode(errors="replace")
