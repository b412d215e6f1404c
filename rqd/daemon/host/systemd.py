"""sd_notify: reports to systemd that the daemon is ready, its status, and that it stops.

The protocol is datagrams of KEY=value lines to the socket in NOTIFY_SOCKET (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """Sends to systemd; does nothing where systemd did not start us."""

    def __init__(self, address: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._status = ""

    def ready(self) -> None:
        """Reports that the daemon can run jobs."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Reports that the daemon reloads its code. `ready` ends that, even after a refusal."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    @property
    def watchdog_s(self) -> float:
        """Returns how long systemd waits for `alive` before it ends us; infinity without a
        watchdog.
        """
        if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return float("inf")
        given = os.environ.get("WATCHDOG_USEC", "")
        return int(given) / 1e6 if given.isdecimal() and int(given) else float("inf")

    def alive(self) -> None:
        """Feeds the watchdog; the main loop does it, so that a stuck loop is ended."""
        if self.watchdog_s < float("inf"):
            self._send("WATCHDOG=1")

    def extend_stop(self, seconds: float) -> None:
        """Asks for so much time from now on for the stop, even past TimeoutStopSec=."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def stopping(self) -> None:
        """Reports that the daemon has begun to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Sends the line for `systemctl status`; only when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.setblocking(False)
                notify.sendto(message.encode(), address)
        except OSError:
            # systemd restarts, or is slow, or we lack a descriptor: a lost status line harms nobody
            return
