"""What a job's own code says and asks while it runs; it needs no Redis, and loads none."""

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
    """Says how far the job that runs here is: a share from 0 to 1, and what it is at.

    It never waits, and may be called as often as one likes: the master writes the latest, at most
    five times a second, and the last one before the job's outcome. `Job.progress` and `rqd info`
    show it. Outside a job, and in processes that the job has forked, it does nothing. Raises
    InvalidCallError for what is no share.
    """
    if not isinstance(fraction, int | float) or not -_ROUNDING <= fraction <= 1 + _ROUNDING:
        raise InvalidCallError(f"progress {fraction!r}: write a share from 0 to 1, such as 0.4")
    if line := current.open_line:
        line.progress(min(1.0, max(0.0, fraction)), str(message)[:_LONGEST_MESSAGE_CHARS])


def extend_timeout(seconds: float | str) -> None:
    """Lets the job that runs here go on for so much longer than its `job_timeout` and what it got
    before; `"10m"` is as good as 600.

    Outside a job, in processes that the job has forked, and for a job without a limit it does
    nothing. Raises ConfigurationError for what is no length of time.
    """
    more_s = more_time_s(seconds)
    if line := current.open_line:
        line.extend(more_s)


def more_time_s(seconds: float | str) -> float:
    """Seconds above 0. Raises ConfigurationError."""
    from rqd.model.names import parse_duration_s  # noqa: PLC0415 - loads re; few jobs ask for time

    more_s = parse_duration_s(seconds, "extend")
    if more_s is None or not 0 < more_s <= _LONGEST_EXTENSION_S:
        raise ConfigurationError(f"extend {seconds!r}: write seconds above 0, or '10m'")
    return more_s


def save_meta(meta: bytes, signature: str) -> None:
    """For `Job.save_meta` where there is a line. Raises PayloadTooLargeError above 1 MiB."""
    if len(meta) > _LONGEST_META_BYTES:
        raise PayloadTooLargeError(
            f"the meta takes {len(meta):,} bytes, the limit in a job is {_LONGEST_META_BYTES:,}:"
            " store it elsewhere and note its address"
        )
    if line := current.open_line:
        line.save_meta(meta, signature)
        current.meta = meta


def runs_here(job_id: str) -> bool:
    """True in the process that runs this job, for what `Job` does differently there."""
    return current.id is not None and current.id == job_id


def current_fence() -> int:
    """The fence of the attempt that runs here: a number that rises with every claim, of any job.

    Hand it to what you write to, and let it refuse a lower number than it has seen: then an attempt
    that was taken for lost and goes on can't overwrite what a later one wrote. Raises
    InvalidJobOperation outside a job.
    """
    if current.id is None:
        raise InvalidJobOperation("no job runs here: there is no fence to write with")
    return current.fence
