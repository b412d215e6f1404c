"""Jobs, at RQ's path. The code is in `rqd.client`."""

from rqd.client.dependency import Dependency
from rqd.client.job import Job, cancel_job, get_current_job, requeue_job
from rqd.client.rq_compat import names_elsewhere
from rqd.model.records import JobStatus

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from rqd.client.callbacks import Callback as Callback
    from rqd.model.errors import NoSuchJobError as NoSuchJobError
    from rqd.model.retry import Retry as Retry

__all__ = [
    "Callback",
    "Dependency",
    "Job",
    "JobStatus",
    "NoSuchJobError",
    "Retry",
    "cancel_job",
    "get_current_job",
    "requeue_job",
]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere(
        "rqd.job",
        {
            "Callback": "rqd.client.callbacks",
            "NoSuchJobError": "rqd.model.errors",
            "Retry": "rqd.model.retry",
        },
    )
