"""Messages between master, zygote and children: length-prefixed frames of byte fields.

A frame is its body's length (4 bytes, big endian), a kind (1 byte) and fields, each a length (4
bytes) and its bytes. Numbers travel as decimal text. There is nothing in it to execute, so the
master can read what a job's process wrote. Imported by the zygote: it imports next to nothing.

A zygote that is restarted after another rqd was installed talks to a master of the version before:
where a frame changes its meaning, so does the FORMAT.
"""

from __future__ import annotations

from _signal import SIGRTMIN

# To be raised when what masters, zygotes and children tell one another has changed.
FORMAT = 4
MAX_FRAME_BYTES = 256 * 1024 * 1024

# master -> zygote
FILL = 1  # worker [at the first FILL of a worker: how many descriptors; + output pipe, life pipe,
# file for stacks, and to join its control group and to kill all in it, if it has one]: keep a child
# there
EMPTY = 2  # worker: let the place be empty once its child has exited
KILL = 3  # worker, pid: SIGKILL to that child's group, if it still is that child
# zygote -> master
READY = 10  # pid, version, rss in bytes, FORMAT [+ four texts a module, if any: unforkable.py]
BOOT_FAILED = 11  # traceback
FORKED = 12  # worker, pid [+ channel, pidfd; and both ends of its mailbox if it takes many jobs]
FORK_FAILED = 13  # worker, error [+ `no place`, if the descriptors of its first FILL did not come]
EXITED = 14  # worker, pid, wait status, cpu in us, peak rss in KiB: 0 for a status of 0
HERE = 16  # it goes round: told every HERE_S seconds
HERE_S = 5.0
# master -> zygote, in a file, before its boot
TRUST = 15  # namespace, number of keys, those, patterns of what may be called
# master -> child
JOB = 20  # id, token, attempt, queue, func_name, payload, serializer, timeout in s, its terms
# if it has any
EXTEND = 21  # token, seconds: so much more time, read when it is over
RECORD = 22  # token, then the names and values of the job's hash: to ASK
# in its mailbox, where it has one: a JOB, or
NEXT = 23  # id, token, until when (monotonic s) it may begin, attempt and so on as in JOB: it was
# given to the child behind another one
LARGE = 24  # id, token: the JOB is in the channel, as it is too large for here
# child -> master; each begins with its job's token: what an earlier job left running can't answer
# for a later one of the same process
SUCCEEDED = 30  # result, preview, a signature where there are keys, and what it used
RAISED = 31  # exception type, message, traceback, its ancestors by line, and what it used
TIMED_OUT = 32  # traceback, and what it used
REFUSED = 33  # reason, and what it used
ASKED_AGAIN = 34  # how often and when, as JSON; why, and what it used
TOO_LATE = 35  # to NEXT: it was not begun; and what it used, nothing
ANSWERS = frozenset((SUCCEEDED, RAISED, TIMED_OUT, REFUSED, ASKED_AGAIN, TOO_LATE))
USED_FIELDS = 4  # at the end of each: wall us, cpu us, us until the call was loaded, bytes grown
# while the job runs; each begins with its token
PROGRESS = 40  # from 0 to 1, message
META = 41  # the serialized meta, its signature where there are keys
EXTENDED = 42  # by how many seconds the job itself has put its time limit off, in all
ASK = 43  # for the RECORD
# before its answer
LAST = 44  # its process takes no other job
# master -> child, without a frame: raise JobStoppedException in the job, which is this child's last
STOP_SIGNAL = SIGRTMIN + 1
# As this one: write the stacks of all threads into the place's file; no thread has to run for it.
STACK_SIGNAL = SIGRTMIN + 2
# As these: raise JobTimeoutException, as its cpu time is over.
CPU_SIGNAL = SIGRTMIN + 3
# A job that has become another program, by exec, dies by them.
ORDERS = (STOP_SIGNAL, CPU_SIGNAL)

Frame = tuple[int, list[bytes]]

_read_int = int.from_bytes  # bound once


class FrameError(Exception):
    """Bytes that are no frame: the other side is broken, or not ours."""

    def __init__(self, why: str, before: list[Frame] | None = None) -> None:
        """`before`: the whole ones that came with them."""
        super().__init__(why)
        self.before = before or []


def encode_frame(kind: int, *fields: bytes) -> bytes:
    """The frame's bytes."""
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
    """What stands in a child's output before that of a job that it ran behind another one."""
    return b"\0%b\0" % token


class FrameReader:
    """Turns a stream of bytes, in whatever pieces it comes, into frames."""

    __slots__ = ("_buffer", "_max_bytes")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    @property
    def is_empty(self) -> bool:
        """True between frames: nothing half read."""
        return not self._buffer

    @property
    def rest(self) -> bytes:
        """What has come of a frame that is not whole yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Takes some bytes, returns the frames they complete. Raises FrameError on nonsense, with
        the frames before it.
        """
        if self._buffer:
            self._buffer += data
            frames, taken = self._read(self._buffer)
            del self._buffer[:taken]
        else:  # most often whole frames come: those are read where they are
            frames, taken = self._read(data)
            if taken < len(data):
                self._buffer += data[taken:]
        return frames

    def _read(self, data: bytes | bytearray) -> tuple[list[Frame], int]:
        """The whole frames, and how many bytes they take."""
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
    """None for nonsense."""
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
