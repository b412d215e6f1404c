"""Calls a job's function in the child, and returns the end as the fields of an answer.

Every fork pays for its imports.
"""

from __future__ import annotations

import io
import os
import sys
from time import monotonic_ns
from types import CoroutineType

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.coroutines import event_loop
from rqd.daemon.zygote.protocol import SUCCEEDED
from rqd.daemon.zygote.timer import timer
from rqd.model.call import DEFAULT_PAYLOAD_LIMIT_BYTES, decode_call, import_function
from rqd.model.errors import (
    InvalidCallError,
    JobStoppedException,
    JobTimeoutException,
    NotAllowedError,
    RetryLater,
)
from rqd.model.serializers import PickleSerializer, resolve_serializer

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rqd.model.allowlist import Allowlist
    from rqd.model.current import CurrentJob

# A job's payload, its serializer, and the allowlist of functions; None allows any.
Call = tuple[bytes, str, "Allowlist | None"]

_TRACEBACK_LIMIT_CHARS = 64 * 1024
_PREVIEW_LIMIT_CHARS = 200
_NONE = PickleSerializer.dumps(None)
# Imported by its name, as a job's function is: it needs redis, which this process otherwise lacks.
_CALLBACK_ARGUMENTS = "rqd.client.callback_runtime.callback_arguments"
# The limit for all exception handlers together: a job that timed out is killed a second later.
_HANDLERS_LIMIT_S = 4.0
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep


def run_call(current: CurrentJob, call: Call, limit_s: float, loaded: list[int]) -> tuple[Any, ...]:
    """Calls the function; returns (kind, field, ..) of the answer. The job's exceptions end here.

    Sets `loaded[0]` to the time (monotonic ns) at which function and arguments were loaded, if that
    imported any module.
    """
    try:
        return _attempt(current, call, limit_s, loaded)
    except JobTimeoutException as error:
        # The alarm came between the call and `disarm`; it repeats only after half a second.
        timer.disarm()
        return protocol.TIMED_OUT, _describe(error)


def _attempt(current: CurrentJob, call: Call, limit_s: float, loaded: list[int]) -> tuple[Any, ...]:
    serializer, is_admitted = call[1], False
    try:
        timer.arm(limit_s)
        function, args, kwargs = _load(call, loaded)
        is_admitted = True
        if '"callback":' in current.terms:
            args = (*import_function(_CALLBACK_ARGUMENTS)(current.terms), *args)
        if current.middleware is None:
            value = _run(function, args, kwargs)
        else:
            value = current.middleware.run(_run, function, args, kwargs)
        if value is not None and type(value).__name__ == "Retry" and (asked := _asked_by(value)):
            timer.disarm()
            return asked
        result = _encode_result(value, serializer)
        timer.disarm()
    except JobTimeoutException as error:
        timer.disarm()
        _tell_handlers(current, error)
        return protocol.TIMED_OUT, _describe(error)
    except RetryLater as error:
        timer.disarm()
        return _asking({"most": error.max, "intervals": [error.delay]}, _message(error))
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its outcome
        timer.disarm()
        if not is_admitted and isinstance(error, NotAllowedError):
            return protocol.REFUSED, _message(error).encode(errors="replace")
        if not isinstance(error, JobStoppedException):
            _tell_handlers(current, error)
        kind, *ancestors = map(_class_name, type(error).__mro__)
        message = _message(error).encode(errors="replace")
        return protocol.RAISED, kind, message, _describe(error), b"\n".join(ancestors)
    if len(result) > DEFAULT_PAYLOAD_LIMIT_BYTES:
        what = (
            f"the result takes {len(result):,} bytes, the limit is"
            f" {DEFAULT_PAYLOAD_LIMIT_BYTES:,}: store it elsewhere and return its address"
        )
        name, message = b"rqd.exceptions.PayloadTooLargeError", what.encode()
        return protocol.RAISED, name, message, message, b""
    return SUCCEEDED, result, _preview(value, len(result))


def _load(call: Call, loaded: list[int]) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    modules = len(sys.modules)
    decoded = decode_call(*call)
    if len(sys.modules) != modules:
        loaded[0] = monotonic_ns()
    return decoded


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    if value is None or type(value) is not CoroutineType:
        return value
    return event_loop.run(value)


def _tell_handlers(current: CurrentJob, error: BaseException) -> None:
    """Calls the daemon's exception handlers, if it has any; they do not change the outcome."""
    if current.middleware is None:
        return
    try:
        timer.arm(_HANDLERS_LIMIT_S)
        current.middleware.notify(error)
        timer.disarm()
    except (JobTimeoutException, JobStoppedException):
        timer.disarm()
        sys.excepthook(*sys.exc_info())


def _asked_by(value: Any) -> tuple[Any, ...] | None:
    """Returns the answer of a job that returned `value`; None unless that is our Retry."""
    from rqd.model.retry import Retry  # noqa: PLC0415 - late: few jobs have use for it

    return _asking(value.asking(), "") if isinstance(value, Retry) else None


def _asking(asked: dict[str, Any], why: str) -> tuple[Any, ...]:
    from rqd.model.terms import dump_terms  # noqa: PLC0415 - as in _asked_by

    return protocol.ASKED_AGAIN, dump_terms(asked).encode(), why.encode(errors="replace")


def _class_name(kind: type) -> bytes:
    return f"{kind.__module__}.{kind.__qualname__}".encode(errors="replace")


def _encode_result(value: Any, serializer: str) -> bytes:
    if value is None and serializer == "pickle":
        return _NONE
    try:
        return resolve_serializer(serializer).dumps(value)
    except JobTimeoutException:
        raise
    except Exception as error:  # noqa: BLE001 - serializers and users' __reduce__ raise anything
        what = f"the result, of type {type(value).__name__},"
        raise InvalidCallError(f"{what} can't be serialized with {serializer}: {error}") from None


def _describe(error: BaseException) -> bytes:
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        shown = shown.tb_next  # the user's code begins behind our own
    try:
        text = _format(error.with_traceback(shown))
    except Exception as failure:  # noqa: BLE001 - a user's __str__ or source file can break this
        text = f"{type(error).__name__} (its traceback can't be shown: {type(failure).__name__})\n"
    return text[-_TRACEBACK_LIMIT_CHARS:].encode(errors="replace")


def _format(error: BaseException) -> str:
    """Formats the traceback by the interpreter's printer; module `traceback` loads a megabyte."""
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
    """Returns a short repr for people, so that no tool must unpickle the result to show it."""
    if size_bytes > 20 * _PREVIEW_LIMIT_CHARS:
        return f"<{type(value).__name__}, {size_bytes:,} bytes>".encode(errors="replace")
    try:
        return repr(value)[:_PREVIEW_LIMIT_CHARS].encode(errors="replace")
    except Exception:  # noqa: BLE001 - a user's __repr__
        return f"<{type(value).__name__}>".encode(errors="replace")
