"""An HTTP request when a job has ended: a callback that needs no function of the user's."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from rqd.model.errors import ConfigurationError
from rqd.model.retry import Retry, check_retry

DEFAULT_TIMEOUT_S = 10
_STATUSES = ("finished", "failed", "stopped")
_METHODS = ("GET", "POST")
# Seconds for the process around the request, which looks up the job first.
_MARGIN_S = 10.0
# Some 13 minutes in all, while the job's record is still there.
_RETRY = Retry(max=5, interval=[1, 5, 30, 120, 600])


class Webhook:
    """A request to `url` when the job has this status: finished, failed or stopped (RQ's Webhook).

    A POST has JSON about the job's end. An answer other than 2xx, or no answer within `timeout`
    seconds, is a failure. A failure is retried; `retry=None` is for never. Redirects are not
    followed. Raises ConfigurationError.
    """

    SENDER = "rqd.webhook.send"

    def __init__(
        self,
        url: str,
        job_status: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: Retry | None = _RETRY,
    ) -> None:
        self._shown = _check_url(url)
        if job_status not in _STATUSES:
            raise ConfigurationError(f"Webhook for {job_status!r}: write {' or '.join(_STATUSES)}")
        if method not in _METHODS:
            raise ConfigurationError(f"Webhook method {method!r}: write {' or '.join(_METHODS)}")
        if not isinstance(timeout, int | float) or not 0 < timeout < 86400:
            raise ConfigurationError(f"Webhook timeout {timeout!r}: write seconds")
        check_retry(retry, "Webhook")
        self.url = url
        self.job_status = job_status
        self.method = method
        self.headers = None if headers is None else _check_headers(headers)
        self.timeout = timeout
        self.retry = retry

    @classmethod
    def of_arguments(
        cls, url: str, job_status: str, method: str, headers: dict[str, str], timeout: float
    ) -> Webhook:
        """Makes the webhook whose `arguments` these are. Raises ConfigurationError."""
        return cls(url, job_status, method=method, headers=headers or None, timeout=timeout)

    @property
    def process_timeout_s(self) -> float:
        """Seconds that its process may run."""
        return self.timeout + _MARGIN_S

    def arguments(self) -> tuple[Any, ...]:
        """Returns the arguments of `send` after the job and the connection."""
        return self.url, self.job_status, self.method, self.headers or {}, self.timeout

    def describe(self) -> str:
        """Describes it for people, without headers and query, which may hold secrets."""
        return f"webhook: {self.method} {self._shown} when {self.job_status}"

    def __eq__(self, other: object) -> bool:
        """True for a Webhook with the same request; `retry` does not count."""
        return isinstance(other, Webhook) and other.arguments() == self.arguments()

    def __hash__(self) -> int:
        return hash((self.url, self.job_status, self.method))

    def __repr__(self) -> str:
        return f"Webhook({self._shown!r}, {self.job_status!r}, method={self.method!r})"


def _check_url(url: str) -> str:
    """Returns the URL's public part. Raises ConfigurationError, which shows no more of it."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        raise ConfigurationError("a Webhook's url has a port that is no number") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
        raise ConfigurationError("a Webhook's url must be http://.. or https://.., in ASCII")
    if not url.isprintable() or " " in url:
        raise ConfigurationError("a Webhook's url has a space or a control character: quote it")
    if parts.username is not None:
        raise ConfigurationError(
            "a Webhook's url has a login: write headers={'Authorization': ..} instead"
        )
    return shown + parts.path


def _check_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict) or not all(
        isinstance(text, str) and text.isascii() and text.isprintable()
        for pair in headers.items()
        for text in pair
    ):
        raise ConfigurationError("a Webhook's headers must be a dict of names and values, in ASCII")
    return dict(headers)
