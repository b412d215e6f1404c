"""rqd's errors, at the path RQ's users know."""

from rqd.client.rq_compat import absent
from rqd.model.errors import (
    AbandonedJobError,
    ConfigurationError,
    DeserializationError,
    DuplicateJobError,
    InvalidCallError,
    InvalidJobOperation,
    InvalidNameError,
    JobFailedError,
    JobStoppedException,
    JobTimeoutException,
    MasterExistsError,
    NoSuchGroupError,
    NoSuchJobError,
    NotDurableError,
    PartlyEnqueuedError,
    PayloadTooLargeError,
    RetryLater,
    RqdError,
    ServerUnavailableError,
    SignatureError,
    WaitTimeoutError,
)

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = [
    "AbandonedJobError",
    "ConfigurationError",
    "DeserializationError",
    "DuplicateJobError",
    "InvalidCallError",
    "InvalidJobOperation",
    "InvalidNameError",
    "JobFailedError",
    "JobStoppedException",
    "JobTimeoutException",
    "MasterExistsError",
    "NoSuchGroupError",
    "NoSuchJobError",
    "NotDurableError",
    "PartlyEnqueuedError",
    "PayloadTooLargeError",
    "RetryLater",
    "RqdError",
    "ServerUnavailableError",
    "SignatureError",
    "WaitTimeoutError",
]


if not TYPE_CHECKING:  # type checkers know which names exist

    def __getattr__(name: str) -> object:
        raise absent("rqd.exceptions", name)
