"""What Redis' errors mean: which pass by themselves, which never will, and what to tell a user."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis import exceptions

from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.store.embedded import is_embedded
from rqd.store.urls import DEFAULT_URL, hide_password

# What a lost or refusing server looks like; a daemon waits for its return.
RedisGone = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.InvalidResponse,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,  # MOVED is one of these
    OSError,
)

# What a server that is not there, or lets nobody in, looks like, besides an answer that says so.
UNREACHED = (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse, OSError)

NOT_OURS = "choose another --namespace, or delete that key"

# Redis 6.2 wraps what stopped a script in a text of its own; and this is what a server that wants
# a password says to a command of more than ten arguments.
_PASSES = re.compile(
    r"\b(?:OOM|READONLY|MISCONF|NOREPLICAS|NOPERM)\b|read only replica|maxmemory"
    r"|MISCONF|can't run this command|unauthenticated"
)
_UNAUTHENTICATED = "unauthenticated"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_WRITES = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")


class NoServerError(ServerUnavailableError, redis.ConnectionError, redis.TimeoutError):
    """What a caller gets where the server can't be reached: ServerUnavailableError, and an error of
    redis-py's for who catches those.
    """


class LoginRefusedError(NoServerError, exceptions.AuthenticationError):
    """The same where the server refuses the password or the user."""


def is_unreached(error: Exception) -> bool:
    """True for the errors of a server that is not there, or lets nobody in."""
    return isinstance(error, UNREACHED) or _UNAUTHENTICATED in str(error)


def no_server(error: Exception, url: str) -> NoServerError:
    """What to raise instead of such an error."""
    is_login = isinstance(error, exceptions.AuthenticationError) or _UNAUTHENTICATED in str(error)
    return (LoginRefusedError if is_login else NoServerError)(_explain(error, url) or str(error))


class UnreadableAnswerError(NoServerError):
    """What answers is no Redis, or says what no script of rqd's has said."""


def is_refusal(error: Exception) -> bool:
    """True if Redis can never carry the call out: a key is of a wrong type, a script failed.

    Errors that pass have a code of their own (MISCONF, BUSY, NOREPLICAS) or a class of redis-py's.
    """
    if not isinstance(error, redis.ResponseError) or isinstance(error, RedisGone):
        return False
    text = str(error)
    code = text.split(" ", 1)[0]
    return code == "WRONGTYPE" or not (code.isupper() or _PASSES.search(text))


def is_lasting(error: Exception) -> bool:
    """True for what looks like a lost server and is none: we may not do this here."""
    return isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError)


def is_foreign_key(error: Exception) -> bool:
    """True if a script found, before its first write, a key that holds something else."""
    return str(error).startswith("WRONGTYPE") and "holds something" in str(error)


def is_full(error: Exception) -> bool:
    """True if Redis has no memory for this call, which has done nothing; others need none."""
    return isinstance(error, exceptions.OutOfMemoryError) or "> 'maxmemory'" in str(error)


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turns redis-py's errors into one line with what to do: ServerUnavailableError, or
    ConfigurationError for a namespace in which somebody else has keys.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # our own output's reader has gone; redis-py has its own error for a lost server
    except ServerUnavailableError:
        raise
    except (redis.RedisError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise  # of our own output's file: a connection has no such error
        if str(error).startswith("WRONGTYPE"):
            # The script's own words name the key; a plain command's don't.
            foreign = "a key of this namespace holds something else"
            which = str(error) if is_foreign_key(error) else foreign
            raise ConfigurationError(f"{which}: {NOT_OURS}") from error
        told = _explain(error, url)
        if told is None:
            raise
        raise ServerUnavailableError(told) from error


class user_errors:  # noqa: N801 - reads as the verb it is; a generator costs an enqueue more
    """For what a user asks: an error says what to do about a namespace not rqd's, or about what
    keeps Redis from taking a write.
    """

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _stack: object) -> None:
        if not isinstance(error, redis.ResponseError):
            return
        if told := explain_write(error):
            raise ServerUnavailableError(told) from error
        if str(error).startswith("WRONGTYPE"):
            raise ConfigurationError(f"{error}: {NOT_OURS}") from error


def explain_write(error: redis.ResponseError) -> str | None:
    """What to tell a user whose write Redis did not take for now; None for any other error."""
    if isinstance(error, exceptions.NoPermissionError):
        return f"Redis denies a command: {error} (`rqd acl` prints what a user needs)"
    code = str(error).split(" ", 1)[0]
    full_or_replica = exceptions.ReadOnlyError, exceptions.OutOfMemoryError
    if isinstance(error, full_or_replica) or code in _NO_WRITES:
        return f"Redis takes no writes: {error}"
    return None


def _explain(error: Exception, url: str) -> str | None:
    shown = hide_password(url)
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError) or _UNAUTHENTICATED in text:
        return f"Redis at {shown} refused the password or user ({error}): check the URL"
    if isinstance(error, exceptions.BusyLoadingError):
        return f"Redis at {shown} still loads its data: try again in a while"
    if isinstance(error, redis.ResponseError):
        if text.startswith("DB index is out of range"):
            return f"Redis at {shown} has no database of that number: check the URL's end"
        told = explain_write(error)
        return told and told.replace("Redis", f"Redis at {shown}", 1)
    if isinstance(error, redis.InvalidResponse):
        return f"what answers at {shown} is no Redis ({error}): check the URL"
    if not isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return None
    if certificate := _explain_certificate(text, is_secure=url.startswith("rediss")):
        return f"Redis at {shown}: {certificate}"
    if isinstance(error, redis.TimeoutError):
        return f"Redis at {shown} does not answer in time ({error}): try again"
    if is_embedded(url):
        return f"no embedded server runs at {url} (`rqd start --url {url}` starts one)"
    told = f"no Redis at {shown} ({error}): is it running, is the URL right?"
    brings = " (`rqd start --url embedded:` brings a server along)"
    return f"{told}{brings if url == DEFAULT_URL else ''}"


def _explain_certificate(text: str, *, is_secure: bool) -> str | None:
    lower = text.lower()
    if "certificate verify failed" in lower:
        why = text[lower.index("certificate verify failed") :].split(" (_ssl")[0].rstrip(").")
        return f"its certificate is not trusted ({why}): check ssl_ca_certs= and the host's name"
    if "certificate required" in lower or "handshake failure" in lower:
        return "it wants a client's certificate: write ?ssl_certfile=..&ssl_keyfile=.."
    if "alert unknown ca" in lower or "alert bad certificate" in lower:
        return "it does not trust our certificate: check ssl_certfile="
    # Its alert was not read before our next write failed.
    is_reset = is_secure and "while writing to socket. connection reset by peer" in lower
    if is_reset or "eof occurred in violation of protocol" in lower:
        return "it ended the TLS connection: does it want another ssl_certfile=, ssl_keyfile=?"
    return None
