"""A child's channel at its master's end: the frames that have come, and which job's they are."""

from __future__ import annotations

from rqd.daemon.workers.worker import Child, Run
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import FrameError

_MOST_READS, _READ_BYTES = 16, 256 * 1024


def read_frames(child: Child, is_alive: bool) -> tuple[list[protocol.Frame], FrameError | None]:
    """What has come on a child's channel, and the nonsense behind it, if any; notes its end."""
    heard: list[protocol.Frame] = []
    # Not for as long as somebody writes: what is left is heard at the next wake. What a dead child
    # has left is never more.
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
            break  # all there was; if the channel has ended, the next wake says so
    return heard, None


def by_answer(heard: list[protocol.Frame]) -> list[list[protocol.Frame]]:
    """The frames in groups, each of which but the last one ends with a job's answer."""
    groups: list[list[protocol.Frame]] = [[]]
    for frame in heard:
        groups[-1].append(frame)
        if frame[0] in protocol.ANSWERS:
            groups.append([])
    return groups if groups[-1] else groups[:-1]


def is_of_another_job(frame: protocol.Frame, run: Run) -> bool:
    """True for the answer of a job that this process had before, which is nobody's any more."""
    token = frame[1][0] if frame[1] else b""
    fence, colon, _ = token.partition(b":")
    return bool(colon) and fence.isdigit() and token != run.claim.token.encode()
