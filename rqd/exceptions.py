"""rqd's errors, at the path RQ's users know."""

from rqd.model.errors import (
    ConfigurationError,
    DeserializationError,
    DuplicateJobError,
    InvalidCallError,
    InvalidJobOperation,
    InvalidNameError,
    JobTimeoutException,
    MasterExistsError,
    NoSuchJobError,
    NotDurableError,
    PayloadTooLargeError,
    RetryLater,
    RqdError,
    ServerUnavailableError,
    SignatureError,
    WaitTimeoutError,
)

__all__ = [
    "ConfigurationError",
    "DeserializationError",
    "DuplicateJobError",
    "InvalidCallError",
    "InvalidJobOperation",
    "InvalidNameError",
    "JobTimeoutException",
    "MasterExistsError",
    "NoSuchJobError",
    "NotDurableError",
    "PayloadTooLargeError",
    "RetryLater",
    "RqdError",
    "ServerUnavailableError",
    "SignatureError",
    "WaitTimeoutError",
]
