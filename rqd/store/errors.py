"""Sorts Redis' errors into passing and lasting errors, and words them for users."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis import exceptions

from rqd.model.errors import ConfigurationError, ServerUnavailableError
from rqd.store.embedded import is_embedded
from rqd.store.tls import NO_TLS
from rqd.store.urls import DEFAULT_URL, hide_password

# The errors of a lost or refusing server; a daemon waits for its return.
RedisGone = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.InvalidResponse,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.AskError,  # MOVED is a subclass
    OSError,
)

# The errors of a server that is not there, or refuses every login, besides an answer that says so.
UNREACHED = (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse, OSError)

NOT_OURS = "choose another --namespace, or delete that key"

# Redis 6.2 wraps the reason that stopped a script in a text of its own. The last pattern is the
# answer of a server that wants a password to a command of more than ten arguments.
_PASSES = re.compile(
    r"\b(?:OOM|READONLY|MISCONF|NOREPLICAS|NOPERM)\b|read only replica|maxmemory"
    r"|MISCONF|can't run this command|unauthenticated"
)
_UNAUTHENTICATED = "unauthenticated"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_WRITES = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")


class NoServerError(ServerUnavailableError, redis.ConnectionError, redis.TimeoutError):
    """Raised where the server can't be reached.

    It is a ServerUnavailableError, and also an error of redis-py's, for callers that catch that.
    """


class LoginRefusedError(NoServerError, exceptions.AuthenticationError):
    """Raised where the server refuses the password or the user."""


def is_unreached(error: Exception) -> bool:
    """True for the errors of a server that is not there, or refuses every login."""
    return isinstance(error, UNREACHED) or _UNAUTHENTICATED in str(error)


def no_server(error: Exception, url: str) -> NoServerError:
    """Returns the error to raise in place of an unreached server's error."""
    is_login = isinstance(error, exceptions.AuthenticationError) or _UNAUTHENTICATED in str(error)
    return (LoginRefusedError if is_login else NoServerError)(_explain(error, url) or str(error))


class UnreadableAnswerError(NoServerError):
    """The server is no Redis, or gave an answer that no script of rqd's gives."""


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
    """True for an error that looks like a lost server, but lasts: we lack the right."""
    return isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError)


def is_foreign_key(error: Exception) -> bool:
    """True if a script found, before its first write, a foreign value under a key."""
    return str(error).startswith("WRONGTYPE") and "holds something" in str(error)


def is_full(error: Exception) -> bool:
    """True if Redis has no memory for this call, which has done nothing; others may need none."""
    return isinstance(error, exceptions.OutOfMemoryError) or "> 'maxmemory'" in str(error)


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turns redis-py's errors into a line with what to do.

    Raises ServerUnavailableError, or ConfigurationError for a namespace with foreign keys.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our own output has gone; redis-py has its own error for a lost server
    except ServerUnavailableError:
        raise
    except (redis.RedisError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise  # an error of our own output's file: a connection has no such error
        if str(error).startswith("WRONGTYPE"):
            # The script's own words name the key; a plain command's words don't.
            foreign = "a key of this namespace holds something else"
            which = str(error) if is_foreign_key(error) else foreign
            raise ConfigurationError(f"{which}: {NOT_OURS}") from error
        message = _explain(error, url)
        if message is None:
            raise
        raise ServerUnavailableError(message) from error


class user_errors:  # noqa: N801 - reads as the verb it is; a generator costs an enqueue more
    """Words the errors of users' calls: a foreign namespace, or why Redis refuses a write."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _stack: object) -> None:
        if not isinstance(error, redis.ResponseError):
            return
        if message := explain_write(error):
            raise ServerUnavailableError(message) from error
        if str(error).startswith("WRONGTYPE"):
            raise ConfigurationError(f"{error}: {NOT_OURS}") from error


def explain_write(error: redis.ResponseError) -> str | None:
    """Returns the words for a user whose write Redis refuses for now; None for any other error."""
    if isinstance(error, exceptions.NoPermissionError):
        return f"Redis denies a command: {error} (`rqd acl` prints the rights of a user)"
    code = str(error).split(" ", 1)[0]
    full_or_replica = exceptions.ReadOnlyError, exceptions.OutOfMemoryError
    if isinstance(error, full_or_replica) or code in _NO_WRITES:
        return f"Redis accepts no writes: {error}"
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
        message = explain_write(error)
        return message and message.replace("Redis", f"Redis at {shown}", 1)
    if isinstance(error, redis.InvalidResponse):
        return f"the server at {shown} is no Redis ({error}): check the URL"
    if not isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return None
    if certificate := _explain_certificate(text, is_secure=url.startswith("rediss")):
        return f"Redis at {shown}: {certificate}"
    if isinstance(error, redis.TimeoutError):
        return f"Redis at {shown} does not answer in time ({error}): try again"
    return _explain_absence(error, url, shown)


def _explain_absence(error: Exception, url: str, shown: str) -> str:
    if is_embedded(url):
        return f"no embedded server runs at {url} (`rqd start --url {url}` starts one)"
    if isinstance(error, ServerUnavailableError):
        return f"no Redis at {shown}: {error}"  # it says what to do
    brings = " (`rqd start --url embedded:` brings a server along)" if url == DEFAULT_URL else ""
    return f"no Redis at {shown} ({error}): is it running, is the URL right?{brings}"


def _explain_certificate(text: str, *, is_secure: bool) -> str | None:
    lower = text.lower()
    if "certificate verify failed" in lower:
        why = text[lower.index("certificate verify failed") :].split(" (_ssl")[0].rstrip(").")
        return f"its certificate is not trusted ({why}): check ssl_ca_certs= and the host's name"
    if "certificate required" in lower or "handshake failure" in lower:
        return "it wants a client's certificate: write ?ssl_certfile=..&ssl_keyfile=.."
    if "alert unknown ca" in lower or "alert bad certificate" in lower:
        return "it does not trust our certificate: check ssl_certfile="
    if "wrong version number" in lower:
        return f"it {NO_TLS}"
    # Its alert was not read before our next write failed.
    is_reset = is_secure and "while writing to socket. connection reset by peer" in lower
    if is_reset or "eof occurred in violation of protocol" in lower:
        return "it ended the TLS connection: does it want another ssl_certfile=, ssl_keyfile=?"
    return None
