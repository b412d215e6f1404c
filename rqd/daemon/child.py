"""The child: takes a job from its channel, calls the function, answers, and leaves by `os._exit`.

Its set-up is paid at every fork, so it is short: signal handlers are the zygote's, installed before
the fork; `_signal` and `_socket` are the C modules, without the enums of `signal` and `socket`
(measured: 22 us against 175 us a fork for resetting signals).
"""

from __future__ import annotations

import _socket
import io
import os
import sys
import time
from fcntl import F_SETOWN, fcntl
from resource import RUSAGE_SELF, getrusage
from select import POLLIN, poll

from rqd.daemon import frames
from rqd.daemon.frames import FrameReader, encode_frame
from rqd.daemon.telling import Teller
from rqd.daemon.timer import timer
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES, decode_call, import_function
from rqd.model.current import current
from rqd.model.errors import (
    InvalidCallError,
    JobStoppedException,
    JobTimeoutException,
    NotAllowedError,
    RetryLater,
)
from rqd.model.serializers import PickleSerializer, resolve_serializer
from rqd.model.trust import Trust

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rqd.model.allowlist import Allowlist

# A job's payload, its serializer, what it may name.
_Call = tuple[bytes, str, "Allowlist | None"]

EX_SOFTWARE = 70
_TRACEBACK_LIMIT_CHARS = 64 * 1024
_PREVIEW_LIMIT_CHARS = 200
_REHEARSALS = 64
# By its name, as what a job calls: it asks Redis, which this process otherwise does without.
_CALLBACK_ARGUMENTS = "rqd.callbacks.callback_arguments"
# Exception handlers have so long together: a job that timed out is killed a second later.
_HANDLERS_LIMIT_S = 4.0
_OWN_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep


def live(
    worker: int,
    channel: _socket.socket,
    pipes: Pipes,
    jobs: int,
    set_title: Callable[[str], None],
    trust: Trust,
) -> None:
    """Runs up to `jobs` jobs from the channel and exits the process; never returns."""
    status = EX_SOFTWARE
    try:
        _set_up(worker, pipes, set_title)
        status = _serve(worker, channel, jobs, set_title, trust)
    except BaseException:  # noqa: BLE001 - nothing may unwind into the zygote's stack
        sys.excepthook(*sys.exc_info())
        _flush()
    finally:
        os._exit(status)


def rehearse(trust: Trust, stack_at_fd: int) -> None:
    """Runs a child's whole path through a job that does nothing; for the zygote, before it forks.

    The interpreter rewrites code that runs for the first times (PEP 659), and what is rewritten
    after the fork is a page to copy in every child.
    """
    payload = PickleSerializer.dumps(("builtins.bool", None, (), {}))
    fields = (b"id", b"1:n", b"1", b"q", b"builtins.bool", payload, b"pickle", b"60")
    frame = encode_frame(frames.JOB, *fields)
    life_read, life_write = os.pipe()
    stack_fd = os.dup(stack_at_fd)
    pipes = Pipes(2, life_read, stack_fd, stack_at_fd)
    for _ in range(_REHEARSALS):
        near, far = _socket.socketpair()
        near.sendall(frame)
        # What it sets is set already: the zygote leads its group, its outputs are one descriptor.
        _set_up(0, pipes, lambda _title: None)
        _serve(0, far, 1, lambda _title: None, trust)
        near.close()
        far.close()
    for fd in (life_read, life_write, stack_fd):
        os.close(fd)


def serve_inline(channel: _socket.socket, trust: Trust) -> None:
    """Runs one job from the channel in this process, which is no child: see inline.py."""
    _serve(0, channel, 1, lambda _title: None, trust)


class Pipes:
    """A place's two pipes: its children's output, and the one that closes when the master dies;
    where they join its control group, -1 for none; and the file for their stacks, with the
    descriptor at which faulthandler looks for it.
    """

    __slots__ = ("join_fd", "life_fd", "output_fd", "poll_life", "stack_at_fd", "stack_fd")

    def __init__(
        self, output_fd: int, life_fd: int, stack_fd: int, stack_at_fd: int, join_fd: int = -1
    ) -> None:
        self.output_fd = output_fd
        self.life_fd = life_fd
        self.stack_fd = stack_fd
        self.stack_at_fd = stack_at_fd
        self.join_fd = join_fd
        watch = poll()
        watch.register(life_fd, 0)  # no event but the pipe's end
        # Made and called once before the fork: each child finds it ready.
        self.poll_life = watch.poll
        self.poll_life(0)


class _Instant:
    """A moment of the monotonic clock, in nanoseconds."""

    __slots__ = ("at_ns",)

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns


class _Inbox:
    """What the master sends: jobs, and to the running one more time, or its record."""

    __slots__ = ("_channel", "_reader", "_taken", "token")

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel
        self._reader = FrameReader()
        self._taken: list[frames.Frame] = []
        self.token = b""

    def next_job(self) -> list[bytes] | None:
        """Waits for a job; None if there will be none."""
        while True:
            while self._taken:
                kind, fields = self._taken.pop(0)
                if kind == frames.JOB:
                    self.token = fields[1]
                    return fields
            data = self._channel.recv(65536)
            if not data:
                return None
            self._taken = self._reader.feed(data)

    def granted_s(self) -> float:
        """Seconds that the running job has got more; called by its alarm, so it may not wait."""
        self._take_what_came()
        granted = [frame for frame in self._taken if frame[0] == frames.EXTEND]
        self._taken = [frame for frame in self._taken if frame[0] != frames.EXTEND]
        return sum(float(fields[1]) for _, fields in granted if fields[0] == self.token)

    def record(self, patience_s: float) -> dict[bytes, bytes] | None:
        """The running job's hash, once the master has sent it; None if it does not in this time."""
        give_up_at = time.monotonic() + patience_s
        watch = poll()
        watch.register(self._channel, POLLIN)
        while True:
            for frame in self._taken:
                if frame[0] == frames.RECORD and frame[1][0] == self.token:
                    self._taken.remove(frame)
                    return dict(zip(frame[1][1::2], frame[1][2::2], strict=True))
            left_s = give_up_at - time.monotonic()
            if left_s <= 0 or not watch.poll(left_s * 1000):
                return None
            timer.is_held = True  # its alarm reads here, too
            try:
                if not self._take_what_came():
                    return None
            finally:
                timer.let_go()

    def _take_what_came(self) -> bool:
        """False if the master is gone."""
        try:
            data = self._channel.recv(65536, _socket.MSG_DONTWAIT)
        except OSError:
            return True  # nothing came
        self._taken += self._reader.feed(data)
        return bool(data)


def _set_up(worker: int, pipes: Pipes, set_title: Callable[[str], None]) -> None:
    pid = os.getpid()
    os.setpgid(0, 0)
    # From here on the kernel kills this process group when the master's end of the pipe closes.
    fcntl(pipes.life_fd, F_SETOWN, -pid)
    # And if the master died before that, we see it now: there is no order that leaves us alive.
    if pipes.poll_life(0):
        os._exit(0)
    if pipes.join_fd >= 0:
        _join_group(pipes.join_fd)
    output_fd = pipes.output_fd
    os.set_blocking(output_fd, True)  # an earlier job may have changed the shared pipe's flags
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.dup2(pipes.stack_fd, pipes.stack_at_fd, False)
    set_title(f"rqd: worker {worker} idle")
    if "numpy.random" in sys.modules:  # else every child would draw the same numbers
        sys.modules["numpy.random"].seed()


def _join_group(join_fd: int) -> None:
    try:
        os.write(join_fd, b"0")
    except OSError:
        pass  # the group is gone: the job is looked at by the master all the same


def _serve(
    worker: int,
    channel: _socket.socket,
    jobs: int,
    set_title: Callable[[str], None],
    trust: Trust,
) -> int:
    pid = os.getpid()
    inbox = _Inbox(channel)
    teller = Teller(channel, pid, inbox.record)
    timer.ask_more = inbox.granted_s
    current.line = teller
    outputs = _outputs() if jobs > 1 else None
    for left in range(jobs, 0, -1):
        fields = inbox.next_job()
        if fields is None:
            return 0  # the master closed the channel: no more work here
        teller.begin(inbox.token)
        answer = _perform(worker, fields, set_title, trust)
        _flush()
        if os.getpid() != pid:
            os._exit(0)  # the job forked and returned in both: only the child itself answers
        # The job closed or turned them, or left a process that may write there: the next one shall
        # have its own. Said before the answer, at which the next one comes.
        is_last = left > 1 and (_outputs() != outputs or _has_children())
        teller.answer(encode_frame(frames.LAST, inbox.token) + answer if is_last else answer)
        if is_last:
            return 0
        if left > 1:
            set_title(f"rqd: worker {worker} idle")
    return 0


def _outputs() -> tuple[int, int, bool, bool] | None:
    """What tells a process's outputs from others; None where one is missing."""
    try:
        return os.fstat(1).st_ino, os.fstat(2).st_ino, sys.stdout.closed, sys.stderr.closed
    except (OSError, AttributeError):
        return None


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def _perform(
    worker: int, fields: list[bytes], set_title: Callable[[str], None], trust: Trust
) -> bytes:
    job_id, token, attempt, queue, func_name, payload, serializer, timeout, *terms = fields
    id_text, queue_text, name_text = job_id.decode(), queue.decode(), func_name.decode()
    since = time.strftime("%H:%M:%S")
    set_title(f"rqd: worker {worker} {name_text} [{queue_text}] {id_text[:8]} since {since}")
    fence, terms_text = int(token.split(b":", 1)[0]), terms[0].decode() if terms else ""
    current.enter(id_text, queue_text, int(attempt), fence, name_text, terms_text)
    peak_kib = getrusage(RUSAGE_SELF).ru_maxrss
    wall_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    loaded = _Instant(wall_ns)
    call = payload, serializer.decode(), trust.allowlist
    kind, *answer = _call(call, float(timeout), loaded)
    wall_us = (time.monotonic_ns() - wall_ns) // 1000
    cpu_us = (time.process_time_ns() - cpu_ns) // 1000
    load_us = (loaded.at_ns - wall_ns) // 1000
    grown_kib = getrusage(RUSAGE_SELF).ru_maxrss - peak_kib
    current.leave()
    if kind == frames.SUCCEEDED and trust.keyring is not None:
        answer.append(trust.sign_result(job_id, token, serializer, answer[0]))
    used = (b"%d" % number for number in (wall_us, cpu_us, load_us, grown_kib * 1024))
    return encode_frame(kind, token, *answer, *used)


def _call(call: _Call, limit_s: float, loaded: _Instant) -> tuple[Any, ...]:
    """Calls the function; (kind, field, ..) of the answer. The job's exceptions end here.

    `loaded` is set to the time at which the function was imported and the arguments were there.
    """
    try:
        return _attempt(call, limit_s, loaded)
    except JobTimeoutException as error:
        # The alarm came between the call and its disarming; it repeats after half a second only.
        timer.disarm()
        return frames.TIMED_OUT, _describe(error)


def _attempt(call: _Call, limit_s: float, loaded: _Instant) -> tuple[Any, ...]:
    serializer, is_admitted = call[1], False
    try:
        timer.arm(limit_s)
        function, args, kwargs = decode_call(*call)
        is_admitted = True
        loaded.at_ns = time.monotonic_ns()
        if '"callback":' in current.terms:
            args = (*import_function(_CALLBACK_ARGUMENTS)(current.terms), *args)
        if current.around is None:
            value = _run(function, args, kwargs)
        else:
            value = current.around.run(_run, function, args, kwargs)
        if type(value).__name__ == "Retry" and (asked := _asked_by(value)):
            timer.disarm()
            return asked
        result = _encode_result(value, serializer)
        timer.disarm()
    except JobTimeoutException as error:
        timer.disarm()
        _tell_handlers(error)
        return frames.TIMED_OUT, _describe(error)
    except RetryLater as error:
        timer.disarm()
        return _asking({"most": error.max, "intervals": [error.delay]}, _message(error))
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its outcome
        timer.disarm()
        if not is_admitted and isinstance(error, NotAllowedError):
            return frames.REFUSED, _message(error).encode(errors="replace")
        if not isinstance(error, JobStoppedException):
            _tell_handlers(error)
        kind, *ancestors = map(_class_name, type(error).__mro__)
        message = _message(error).encode(errors="replace")
        return frames.RAISED, kind, message, _describe(error), b"\n".join(ancestors)
    if len(result) > DEFAULT_PAYLOAD_LIMIT_BYTES:
        what = (
            f"the result takes {len(result):,} bytes, the limit is"
            f" {DEFAULT_PAYLOAD_LIMIT_BYTES:,}: store it elsewhere and return its address"
        )
        name, told = b"rqd.exceptions.PayloadTooLargeError", what.encode()
        return frames.RAISED, name, told, told, b""
    return frames.SUCCEEDED, result, _preview(value, len(result))


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return _run_coroutine(value) if type(value).__name__ == "coroutine" else value


def _tell_handlers(error: BaseException) -> None:
    """The daemon's exception handlers are called, if it has any: the outcome stays what it is."""
    if current.around is None:
        return
    try:
        timer.arm(_HANDLERS_LIMIT_S)
        current.around.tell(error)
        timer.disarm()
    except (JobTimeoutException, JobStoppedException):
        timer.disarm()
        sys.excepthook(*sys.exc_info())


def _asked_by(value: Any) -> tuple[Any, ...] | None:
    """The answer of a job that returned this; None if it is no Retry of ours."""
    from rqd.model.retry import Retry  # noqa: PLC0415 - late: few jobs have use for it

    return _asking(value.asking(), "") if isinstance(value, Retry) else None


def _asking(asked: dict[str, Any], why: str) -> tuple[Any, ...]:
    from rqd.model.terms import dump_terms  # noqa: PLC0415 - as in _asked_by

    return frames.ASKED_AGAIN, dump_terms(asked).encode(), why.encode(errors="replace")


def _class_name(kind: type) -> bytes:
    return f"{kind.__module__}.{kind.__qualname__}".encode(errors="replace")


def _encode_result(value: Any, serializer: str) -> bytes:
    try:
        return resolve_serializer(serializer).dumps(value)
    except JobTimeoutException:
        raise
    except Exception as error:  # noqa: BLE001 - serializers and users' __reduce__ raise anything
        what = f"the result, of type {type(value).__name__},"
        raise InvalidCallError(f"{what} can't be serialized with {serializer}: {error}") from None


def _run_coroutine(value: Any) -> Any:
    import asyncio  # noqa: PLC0415 - late: only jobs that are coroutine functions pay for it

    return asyncio.run(value)


def _describe(error: BaseException) -> bytes:
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        shown = shown.tb_next  # the user's code begins after our own
    try:
        text = _format(error.with_traceback(shown))
    except Exception as failure:  # noqa: BLE001 - a user's __str__ or source file can break this
        text = f"{type(error).__name__} (its traceback can't be shown: {type(failure).__name__})\n"
    return text[-_TRACEBACK_LIMIT_CHARS:].encode(errors="replace")


def _format(error: BaseException) -> str:
    """Its traceback, by the interpreter's own printer: the module `traceback` loads a megabyte."""
    printed, theirs = io.StringIO(), sys.stderr
    sys.stderr = printed
    try:
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        sys.stderr = theirs
    return printed.getvalue()


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_TRACEBACK_LIMIT_CHARS]
    except Exception as failure:  # noqa: BLE001 - a user's __str__
        return f"(its message can't be shown: {type(failure).__name__})"


def _preview(value: Any, size_bytes: int) -> bytes:
    """A short repr for people who look at the job, so that nobody must unpickle to show it."""
    if size_bytes > 20 * _PREVIEW_LIMIT_CHARS:
        return f"<{type(value).__name__}, {size_bytes:,} bytes>".encode(errors="replace")
    try:
        return repr(value)[:_PREVIEW_LIMIT_CHARS].encode(errors="replace")
    except Exception:  # noqa: BLE001 - a user's __repr__
        return f"<{type(value).__name__}>".encode(errors="replace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # closed or replaced by the job; its output is its own affair
