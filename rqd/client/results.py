"""The result of an attempt of a job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from rqd.client.connection import Backend
from rqd.client.payloads import check_result, reader_of
from rqd.model.errors import DeserializationError
from rqd.model.numbers import instant
from rqd.model.records import AttemptRecord


class ResultType(StrEnum):
    """The end of an attempt, in RQ's words."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    STOPPED = "stopped"
    RETRIED = "retried"


_DETAILS: dict[str, Callable[[str], Any]] = {
    "pid": int,
    "wall_s": float,
    "cpu_s": float,
    "load_s": float,
    "peak_memory_bytes": int,
    "memory_limit_bytes": int,
    "output_bytes": int,
    "host": str,
    "zygote": int,
    "signal": int,
    "exit_status": int,
    "core_dumped": lambda text: text == "1",
    "sent_by": str,
    "exc_type": str,
    "exc_message": str,
    "preview": str,
}


class _HasResults(Protocol):
    def results(self) -> list[Result]: ...
    def latest_result(self, timeout: float = 0) -> Result | None: ...


class Result:
    """The result of an attempt. None where a value does not exist.

    `exc_string` is the traceback, `cause` the cause of a failure in one line. `output` is the last
    64 KiB that it printed. `stack` shows its threads when it crashed or its time was over.
    `details` has all other facts that are known.
    """

    Type = ResultType

    def __init__(
        self, backend: Backend, job_id: str, serializer: str, attempt: AttemptRecord
    ) -> None:
        self._backend = backend
        self._serializer = serializer
        self.record = attempt
        self.job_id = job_id
        self.type = ResultType(attempt.type)
        self.attempt = attempt.attempt
        self.created_at = instant(attempt.created_us)
        self.exc_string = attempt.text("exc_string") or None
        self.cause = attempt.text("cause") or None
        self.output = attempt.text("output")
        self.stack = attempt.text("stack") or None
        self.details: dict[str, Any] = {}
        for name, read in _DETAILS.items():
            try:
                self.details[name] = read(attempt.fields[name].decode(errors="replace"))
            except (KeyError, ValueError):
                continue  # it was not measured, or is damaged

    @classmethod
    def all(cls, job: _HasResults) -> list[Result]:
        """Returns the results of a job's attempts, latest first: `job.results()` (RQ's name)."""
        return job.results()

    @classmethod
    def count(cls, job: _HasResults) -> int:
        """Returns the number of a job's results; Redis keeps the last ten (RQ's name)."""
        return len(job.results())

    @classmethod
    def fetch_latest(cls, job: _HasResults, timeout: float = 0) -> Result | None:
        """Returns the latest result: `job.latest_result(timeout)` (RQ's name)."""
        return job.latest_result(timeout)

    @property
    def execution_id(self) -> str:
        """The name of the attempt, by the token of its claim; unique for ever."""
        return self.record.text("token") or f"{self.job_id}.{self.attempt}"

    @property
    def return_value(self) -> Any:
        """The job's return value; None unless it was successful, or if the value is gone by now.

        Raises DeserializationError if it can't be read here. Raises SignatureError if there are
        signing keys and none of them signed it.
        """
        if self.type is not ResultType.SUCCESSFUL:
            return None
        data = self._backend.views.result_bytes(self.job_id, self.record)
        return None if data is None else self.read(data)

    @property
    def execution_started_at(self) -> datetime | None:
        """The time at which its process began the attempt; None if that was not measured."""
        wall_s = self.details.get("wall_s")
        return None if wall_s is None else self.created_at - timedelta(seconds=wall_s)

    @property
    def execution_ended_at(self) -> datetime:
        """The time of the attempt's end: `created_at` (RQ's name)."""
        return self.created_at

    def read(self, data: bytes) -> Any:
        """Reads the attempt's serialized result. Raises as `return_value`."""
        check_result(self.job_id, self._serializer, self.record, data, self._backend)
        try:
            return reader_of(self._serializer)(data)
        except Exception as error:
            # Unpickling runs the user's code, which raises anything.
            raise DeserializationError(
                f"the result of job {self.job_id} can't be read: {error}"
            ) from error

    def __repr__(self) -> str:
        return f"<Result {self.type} of {self.job_id}, attempt {self.attempt}>"
