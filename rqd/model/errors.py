"""All errors that rqd raises on purpose; each says when it happens and what to do.

Names that RQ's users know are kept (`NoSuchJobError`, `DuplicateJobError`, `InvalidJobOperation`,
`JobTimeoutException`).
"""

from __future__ import annotations


class RqdError(Exception):
    """Root of rqd's errors."""


class ConfigurationError(RqdError, ValueError, TypeError):
    """A setting can't be used: a URL, a number, a name. The message says what to write instead."""


class InvalidNameError(ConfigurationError):
    """A queue, namespace or master name has characters that can't stand in a key."""


class InvalidCallError(RqdError, ValueError, TypeError):
    """The call can't run in another process: a lambda, a function of `__main__`, arguments that
    don't serialize. Move the function to a module that workers import, and pass plain values.
    """


class PayloadTooLargeError(InvalidCallError):
    """A job's arguments are larger than the limit. Store them elsewhere and pass their address."""


class NoSuchJobError(RqdError, LookupError):
    """No job has this id: it never existed, was deleted, or its result's time to live is over."""

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class NoSuchGroupError(RqdError, LookupError):
    """No group has this name: no job was ever put in, or their times to live are over."""


class DuplicateJobError(RqdError):
    """A job with this id, or with this unique key, is still alive: `job_id` names it. Wait for its
    end, or choose another id or key.
    """

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class InvalidJobOperation(RqdError):
    """The job's state doesn't allow this, such as requeueing a job that runs; or a new job would
    wait for itself, by way of others.
    """


class DeserializationError(RqdError):
    """Stored bytes can't be read back with the job's serializer."""


class SignatureError(RqdError):
    """A job, a result or a meta is not signed with any of our keys: it was not deserialized.

    Its writer lacks the key, or it was changed in Redis.
    """


class NotAllowedError(RqdError):
    """A daemon's `--allow` does not cover a name in a job. Widen it, or ask who enqueued this."""


class JobFailedError(RqdError):
    """Passed to an `on_failure` callback where the job raised nothing: it crashed, was killed, or
    was refused. The text is its cause.
    """


class AbandonedJobError(JobFailedError):
    """A JobFailedError for a job that was lost with its host or process time and again."""


class MasterExistsError(RqdError):
    """A live master has this name. Choose another `--name`, or stop that master."""


class ServerUnavailableError(RqdError):
    """Redis can't be reached, or refuses us. The message says where and why."""


class NotDurableError(RqdError):
    """The jobs are enqueued, but the copies that `wait_replicas` or `wait_aof` asks for were not
    made in time. Don't enqueue the jobs again; `job_ids` lists them.
    """

    def __init__(self, message: str, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.job_ids = job_ids


class PartlyEnqueuedError(RqdError):
    """A large batch was refused, or Redis was lost, between two of its portions.

    `job_ids` lists the enqueued jobs: the beginning of the batch, in its order. `__cause__` is the
    error that ended it.
    """

    def __init__(self, message: str, job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.job_ids = job_ids


class WaitTimeoutError(RqdError, TimeoutError):
    """The job has not ended within the time of the wait. It goes on: wait again."""


class JobTimeoutException(Exception):
    """Raised in a job that runs longer than its `job_timeout`, and again until it gets through."""


class JobStoppedException(BaseException):
    """Raised once in a running job that somebody stops; a kill follows when its grace is over.

    Not an Exception, so that a job does not mistake it for an error of its own. Clean up in
    `finally`.
    """


class RetryLater(Exception):
    """Raise it in a job to run it again in `delay` seconds, without using a retry.

    `why` is for the operator. `max` limits the number of such runs in all, None for no limit.
    Raises ConfigurationError for values out of range.
    """

    def __init__(self, delay: float = 0, why: str = "", *, max: int | None = None) -> None:  # noqa: A002 - as in Retry
        from rqd.model.numbers import MOST_RUNS, is_count, is_interval  # noqa: PLC0415 - few jobs raise it

        super().__init__(why)
        if not is_interval(delay):
            raise ConfigurationError(f"RetryLater({delay!r}): write seconds, 0 or more")
        if max is not None and not is_count(max):
            raise ConfigurationError(f"RetryLater(max={max!r}): write 0 to {MOST_RUNS:,}, or None")
        self.delay = delay
        self.max = max


# Users import them from rqd.exceptions: that is the name a traceback shall show.
for _error in [*globals().values()]:
    if isinstance(_error, type) and issubclass(_error, BaseException):
        _error.__module__ = "rqd.exceptions"
