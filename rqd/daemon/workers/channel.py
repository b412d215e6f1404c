"""Reads a child's channel at the master's end, and assigns the frames to jobs."""

from __future__ import annotations

from rqd.daemon.workers.worker import Attempt, Child
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameError

_MOST_READS, _READ_BYTES = 16, 256 * 1024


def read_frames(child: Child, is_alive: bool) -> tuple[list[protocol.Frame], FrameError | None]:
    """Reads the frames that have come on a child's channel; notes the channel's end.

    Also returns the error of the bytes behind them, None if all were frames.
    """
    heard: list[protocol.Frame] = []
    # The reads are limited, as a process may write without end: the next wake reads the rest. A
    # dead child never leaves more than that.
    for _ in range(_MOST_READS):
        try:
            data = child.channel.recv(_READ_BYTES)
        except BlockingIOError:
            break
        except ConnectionResetError:
            child.unread = child.is_deaf = True
            break
        if not data:
            child.is_deaf = True
            break
        try:
            heard += child.reader.feed(data)
        except FrameError as error:
            return heard + error.before, error
        if is_alive and len(data) < _READ_BYTES:
            break  # that was all; if the channel has ended, the next wake finds it
    return heard, None


def by_answer(heard: list[protocol.Frame]) -> list[list[protocol.Frame]]:
    """Splits the frames into groups: each ends with a job's answer, the last group perhaps not."""
    groups: list[list[protocol.Frame]] = [[]]
    for frame in heard:
        groups[-1].append(frame)
        if frame[0] in protocol.ANSWERS:
            groups.append([])
    return groups if groups[-1] else groups[:-1]


def is_of_another_job(frame: protocol.Frame, attempt: Attempt) -> bool:
    """True for a frame with another job's token: an earlier job of this process sent it late."""
    token = frame[1][0] if frame[1] else b""
    fence, colon, _ = token.partition(b":")
    return bool(colon) and fence.isdigit() and token != attempt.claim.token.encode()
