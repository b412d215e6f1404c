"""The functions for a job's own code while it runs. They need no Redis, and load no client."""

from __future__ import annotations

from rqd.model.current import current
from rqd.model.errors import (
    ConfigurationError,
    InvalidCallError,
    InvalidJobOperation,
    PayloadTooLargeError,
)

_LONGEST_EXTENSION_S = 10**8
_LONGEST_META_BYTES = 1024 * 1024
_LONGEST_MESSAGE_CHARS = 500
# 0.1 added ten times is not 1.
_ROUNDING = 1e-6


def progress(fraction: float, message: str = "") -> None:
    """Sets the progress of the job that runs here: a share from 0 to 1, and a message.

    It never waits, and may be called at any rate: the master writes the latest progress, at most
    five times a second, and the last before the job's outcome. `Job.progress` and `rqd info` show
    it. Does nothing outside a job, and in processes that the job has forked. The message is cut to
    500 characters. Raises InvalidCallError for a fraction outside 0 to 1.
    """
    if not isinstance(fraction, int | float) or not -_ROUNDING <= fraction <= 1 + _ROUNDING:
        raise InvalidCallError(f"progress {fraction!r}: write a share from 0 to 1, such as 0.4")
    if line := current().open_line:
        line.progress(min(1.0, max(0.0, fraction)), str(message)[:_LONGEST_MESSAGE_CHARS])


def extend_timeout(seconds: float | str) -> None:
    """Extends the time limit of the job that runs here, by seconds or a duration such as `"10m"`.

    Extensions add up, on top of its `job_timeout`. Does nothing outside a job, in processes that
    the job has forked, and for a job without a limit. Raises ConfigurationError for 0, negative and
    unreadable durations.
    """
    more_s = more_time_s(seconds)
    if line := current().open_line:
        line.extend(more_s)


def more_time_s(seconds: float | str) -> float:
    """Returns the extension in seconds, above 0. Raises ConfigurationError."""
    from rqd.model.names import parse_duration_s  # noqa: PLC0415 - loads re; few jobs ask for time

    more_s = parse_duration_s(seconds, "extend")
    if more_s is None or not 0 < more_s <= _LONGEST_EXTENSION_S:
        raise ConfigurationError(f"extend {seconds!r}: write seconds above 0, or '10m'")
    return more_s


def save_meta(meta: bytes, signature: str) -> None:
    """Sends the job's meta to its master, if there is a line to it.

    Raises PayloadTooLargeError above 1 MiB.
    """
    if len(meta) > _LONGEST_META_BYTES:
        raise PayloadTooLargeError(
            f"the meta has {len(meta):,} bytes, the limit in a job is {_LONGEST_META_BYTES:,}:"
            " store it elsewhere and note its address"
        )
    if line := current().open_line:
        line.save_meta(meta, signature)
        current().meta = meta


def runs_here(job_id: str) -> bool:
    """True in the process that runs this job, where `Job` asks the master instead of Redis."""
    return current().id == job_id


def current_fence() -> int:
    """Returns the fence of the attempt that runs here: a number that rises with every claim.

    Hand it to the store that you write to, and let the store refuse a lower number than it has
    seen. Then an attempt that was declared lost and goes on can't overwrite a later attempt's data.
    Raises InvalidJobOperation outside a job.
    """
    here = current()
    if here.id is None:
        raise InvalidJobOperation("no job runs here, so there is no fence: write from inside a job")
    return here.fence
