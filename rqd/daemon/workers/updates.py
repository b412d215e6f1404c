"""Reads the updates of running jobs from their frames, and keeps them until they are in Redis.

They are coalesced here once more: only the latest update of each kind is written. All jobs' updates
are written together, every 0.2 s at most. A job's last updates are written before its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import Frame

# A child of ours sends some sixty a second at most. More frames come from other code, and would
# keep the master busy.
_MOST_AT_ONCE = 1000
_MOST_A_SECOND = 200
# The client's limit, checked again because a frame can carry more.
LONGEST_META_BYTES = 1024 * 1024
_LONGEST_MESSAGE_BYTES = 4 * 1024
_LONGEST_S = 1e9

_KINDS = frozenset((protocol.PROGRESS, protocol.META, protocol.EXTENDED, protocol.ASK))


@dataclass(slots=True)
class PendingUpdates:
    """The updates of a job that are not in Redis yet; None for no update of that kind."""

    progress: bytes | None = None
    meta: tuple[bytes, bytes] | None = None  # with its signature
    extended_s: float = 0.0  # by the job itself, in all
    heard: int = 0  # frames so far
    asks_record: bool = False

    def __bool__(self) -> bool:
        return self.progress is not None or self.meta is not None

    def take(self, heard: list[Frame], token: bytes, running_s: float) -> list[Frame]:
        """Keeps the updates among the frames, and returns the other frames.

        `running_s`: seconds since the job's start. Raises ValueError for frames that no child of
        ours sends: too many, of another token, or out of range.
        """
        if not any(frame[0] in _KINDS for frame in heard):
            return heard
        others = [frame for frame in heard if frame[0] not in _KINDS]
        self.heard += len(heard) - len(others)
        if self.heard > _MOST_AT_ONCE + _MOST_A_SECOND * running_s:
            raise ValueError(f"{self.heard} frames in {running_s:.1f} s")
        for kind, fields in heard:
            if kind in _KINDS:
                if not fields or fields[0] != token:
                    raise ValueError("another token")
                self._take_one(kind, fields[1:])
        return others

    def written(self) -> None:
        """Notes that all of it is in Redis."""
        self.progress = self.meta = None

    def _take_one(self, kind: int, fields: list[bytes]) -> None:
        if kind == protocol.PROGRESS:
            fraction, message = fields
            if not 0 <= float(fraction) <= 1:
                raise ValueError(fraction)
            self.progress = b"%.6g %b" % (float(fraction), message[:_LONGEST_MESSAGE_BYTES])
        elif kind == protocol.META:
            meta, signature = fields
            if len(meta) > LONGEST_META_BYTES or len(signature) > LONGEST_META_BYTES:
                raise ValueError(f"a meta of {len(meta)} bytes")
            self.meta = meta, signature
        elif kind == protocol.ASK:
            if fields:
                raise ValueError(fields)
            self.asks_record = True
        else:
            (extended,) = fields
            if not 0 <= float(extended) <= _LONGEST_S:
                raise ValueError(extended)
            self.extended_s = float(extended)
