"""Decides which commands a master with signing keys obeys: signed commands, each of them once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rqd.daemon.config import Config
from rqd.daemon.instance import Instance

# The longest time between a client's reading of Redis' clock and the beat that brings its command.
WINDOW_S = 60
# The number of signed commands that are remembered; older commands are not obeyed any more.
MOST_REMEMBERED = 1000


class Authentication:
    """The keys, and the commands that were obeyed.

    It forgets commands by their number and not by the clock, which the server sets. A command older
    than the oldest remembered command counts as obeyed.
    """

    def __init__(self, config: Config, instance: Instance) -> None:
        self._config = config
        self._instance = instance
        self._obeyed: dict[str, int] = {}  # ids with the times of their signatures
        self._forgotten_us = 0

    def configure(self, config: Config) -> None:
        """Uses other keys from now on."""
        self._config = config

    def admit(self, command: Mapping[str, Any], now_us: int) -> str:
        """Returns why a command must not be obeyed; empty if it may be, this once.

        `now_us` is Redis' time. Without keys, and for an unsigned command without --require-signed,
        nothing is checked.
        """
        keyring = self._config.keyring
        if keyring is None:
            return ""
        # Late: without a key nobody loads hmac.
        from rqd.model.signing import (  # noqa: PLC0415 - see above
            Addressee,
            Verdict,
            is_signed,
            signed_at_us,
            verify_command,
        )

        if not is_signed(command):
            return _UNSIGNED if self._config.require_signed else ""
        instance = self._instance
        us = Addressee(self._config.namespace, instance.name, instance.boot)
        match verify_command(command, keyring, us):
            case Verdict.GOOD:
                return self._admit_once(command["id"], signed_at_us(command), now_us)
            case Verdict.UNKNOWN_KEY:
                key_id = command["signature"].partition(":")[0]
                return f"it is signed with key {key_id}, which this daemon lacks"
            case _:
                return "its signature is wrong, or is for another master: send it again"

    def _admit_once(self, command_id: str, signed_us: int, now_us: int) -> str:
        if abs(now_us - signed_us) > WINDOW_S * 1_000_000:
            return f"it was not signed within {WINDOW_S} s, by Redis' clock: send it again"
        if signed_us <= self._forgotten_us or command_id in self._obeyed:
            return "it was carried out before: send a new command"
        self._obeyed[command_id] = signed_us
        if len(self._obeyed) > MOST_REMEMBERED:
            oldest = min(self._obeyed, key=self._obeyed.__getitem__)
            self._forgotten_us = max(self._forgotten_us, self._obeyed.pop(oldest))
        return ""


_UNSIGNED = "it is not signed: set RQD_SIGNING_KEY or RQD_SIGNING_KEY_FILE where it is sent"
