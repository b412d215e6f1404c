"""Messages between master, zygote and children: length-prefixed frames of byte fields.

A frame is its body's length (4 bytes, big endian), a kind (1 byte) and fields, each a length (4
bytes) and its bytes. Numbers travel as decimal text. A frame holds nothing to execute, so the
master can read frames of a job's process. The zygote imports this: it imports next to nothing.

A zygote that is restarted after another rqd was installed talks to a master of the old version.
So FORMAT rises when a frame changes its meaning.
"""

from __future__ import annotations

from _signal import SIGRTMIN

# Raise it when a message between masters, zygotes and children changes.
FORMAT = 4
MAX_FRAME_BYTES = 256 * 1024 * 1024

# master -> zygote
FILL = 1  # worker [+ at its first FILL a count of descriptors, and these: output pipe, life pipe,
# file for stacks; with a control group the files to join it and to kill all in it]: keep a child
# there
EMPTY = 2  # worker: leave the slot empty once its child has exited
KILL = 3  # worker, pid: SIGKILL to the child's group, if the child there still has this pid
# zygote -> master
READY = 10  # pid, version, rss in bytes, FORMAT [+ four texts a module, if any: fork_safety.py]
BOOT_FAILED = 11  # traceback
FORKED = 12  # worker, pid [+ channel, pidfd; and both ends of its mailbox if it runs many jobs]
FORK_FAILED = 13  # worker, error [+ `no slot`, if descriptors of its first FILL did not arrive]
EXITED = 14  # worker, pid, wait status, cpu in us, peak rss in KiB: 0 for a status of 0
HERE = 16  # the zygote's loop runs; sent every HERE_S seconds
HERE_S = 5.0
# master -> zygote, in a file, before its boot
TRUST = 15  # namespace, number of keys, the keys, patterns of functions that jobs may call
# master -> child
JOB = 20  # id, token, attempt, queue, func_name, payload, serializer, timeout in s, its terms
# if it has any
EXTEND = 21  # token, seconds: more time, read when the job's time is over
RECORD = 22  # token, then the names and values of the job's hash: the reply to ASK
# in a child's mailbox, if it has one: a JOB, or
NEXT = 23  # id, token, until when (monotonic s) it may begin, attempt and so on as in JOB: the job
# was given to the child behind another job
LARGE = 24  # id, token: the JOB is in the channel, as it is too large for the mailbox
# child -> master; each begins with its job's token, so that a process that an earlier job left
# running can't answer for a later job
SUCCEEDED = 30  # result, preview, a signature if there are keys, and usage
RAISED = 31  # exception type, message, traceback, its ancestors by line, and usage
TIMED_OUT = 32  # traceback, and usage
REFUSED = 33  # reason, and usage
ASKED_AGAIN = 34  # how often and when, as JSON; why, and usage
TOO_LATE = 35  # to NEXT: the job was not begun; and usage, all 0
ANSWERS = frozenset((SUCCEEDED, RAISED, TIMED_OUT, REFUSED, ASKED_AGAIN, TOO_LATE))
USED_FIELDS = 4  # usage, at the end of each: wall us, cpu us, us until the call was loaded, bytes
# of growth
# child -> master while the job runs; each begins with its token
PROGRESS = 40  # from 0 to 1, message
META = 41  # the serialized meta, its signature if there are keys
EXTENDED = 42  # seconds by which the job has extended its own time limit, in all
ASK = 43  # for the RECORD
# child -> master, before the answer
LAST = 44  # the process runs no other job
# master -> child, as a signal: raise JobStoppedException in the job, which is this child's last
STOP_SIGNAL = SIGRTMIN + 1
# As a signal, too: write the stacks of all threads into the slot's file; no thread need run.
STACK_SIGNAL = SIGRTMIN + 2
# As a signal, too: raise JobTimeoutException, as the job's cpu time is over.
CPU_SIGNAL = SIGRTMIN + 3
# A job that has executed another program dies by these.
ORDERS = (STOP_SIGNAL, CPU_SIGNAL)

Frame = tuple[int, list[bytes]]

_read_int = int.from_bytes  # bound once


class FrameError(Exception):
    """The bytes are no frame: the other side is broken, or is not rqd."""

    def __init__(self, why: str, before: list[Frame] | None = None) -> None:
        """`before`: the whole frames that came before these bytes."""
        super().__init__(why)
        self.before = before or []


def encode_frame(kind: int, *fields: bytes) -> bytes:
    """Returns the bytes of a frame."""
    parts = [b"", kind.to_bytes(1, "big")]
    body_bytes = 1
    for field in fields:
        size = len(field)
        body_bytes += 4 + size
        parts.append(size.to_bytes(4, "big"))
        parts.append(field)
    parts[0] = body_bytes.to_bytes(4, "big")
    return b"".join(parts)


def mark_of(token: bytes) -> bytes:
    """Returns the delimiter that a reused child prints before each prefetched job's output."""
    return b"\0%b\0" % token


class FrameReader:
    """Turns a stream of bytes, in pieces of any size, into frames."""

    __slots__ = ("_buffer", "_max_bytes")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that is not whole yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Accepts bytes, and returns the frames that they complete.

        Raises FrameError, with the frames before it, if bytes are no frame.
        """
        if self._buffer:
            self._buffer += data
            frames, taken = self._read(self._buffer)
            del self._buffer[:taken]
        else:  # most often whole frames come, and are read without a copy
            frames, taken = self._read(data)
            if taken < len(data):
                self._buffer += data[taken:]
        return frames

    def _read(self, data: bytes | bytearray) -> tuple[list[Frame], int]:
        """Returns the whole frames, and their length in bytes."""
        frames: list[Frame] = []
        start, size = 0, len(data)
        while size - start >= 4:
            body_bytes = _read_int(data[start : start + 4], "big")
            if not 1 <= body_bytes <= self._max_bytes:
                raise FrameError(f"a frame of {body_bytes} bytes", frames)
            end = start + 4 + body_bytes
            if size < end:
                break
            frame = _decode_body(data, start + 4, end)
            if frame is None:
                raise FrameError("a field reaches past the end of its frame", frames)
            frames.append(frame)
            start = end
        return frames, start


def _decode_body(data: bytes | bytearray, start: int, end: int) -> Frame | None:
    """Returns the frame; None if a field reaches past its end."""
    kind = data[start]
    at = start + 1
    fields: list[bytes] = []
    while at < end:
        field_end = at + 4 + _read_int(data[at : at + 4], "big")
        if at + 4 > end or field_end > end:
            return None
        fields.append(bytes(data[at + 4 : field_end]))
        at = field_end
    return kind, fields
