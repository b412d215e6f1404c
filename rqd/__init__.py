"""rqd: job queues for Python on Redis, run by a forking supervisor daemon.

The names below load what they need when they are first used (PEP 562): a task module that says
`from rqd import Queue` costs the zygote little, and the child no Redis.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

if TYPE_CHECKING:
    from rqd.client.callbacks import Callback as Callback
    from rqd.client.connection import use_redis as use_redis
    from rqd.client.job import Job as Job
    from rqd.client.job import cancel_job as cancel_job
    from rqd.client.job import get_current_job as get_current_job
    from rqd.client.job import requeue_job as requeue_job
    from rqd.client.options import chain as chain
    from rqd.client.queue import Queue as Queue
    from rqd.client.running_job import current_fence as current_fence
    from rqd.client.running_job import extend_timeout as extend_timeout
    from rqd.client.running_job import progress as progress
    from rqd.client.webhook import Webhook as Webhook
    from rqd.client.worker import SimpleWorker as SimpleWorker
    from rqd.client.worker import Worker as Worker
    from rqd.model.limits import RateLimit as RateLimit
    from rqd.model.limits import Unique as Unique
    from rqd.model.repeat import Repeat as Repeat
    from rqd.model.retry import Retry as Retry

_HOME = {
    "Callback": "rqd.client.callbacks",
    "Job": "rqd.client.job",
    "Queue": "rqd.client.queue",
    "RateLimit": "rqd.model.limits",
    "Repeat": "rqd.model.repeat",
    "Retry": "rqd.model.retry",
    "SimpleWorker": "rqd.client.worker",
    "Unique": "rqd.model.limits",
    "Webhook": "rqd.client.webhook",
    "Worker": "rqd.client.worker",
    "cancel_job": "rqd.client.job",
    "chain": "rqd.client.options",
    "current_fence": "rqd.client.running_job",
    "extend_timeout": "rqd.client.running_job",
    "progress": "rqd.client.running_job",
    "get_current_job": "rqd.client.job",
    "requeue_job": "rqd.client.job",
    "use_redis": "rqd.client.connection",
}

# `import rq` makes these modules attributes, so users write `rqd.job.Job`. Without this, it would
# depend on other code having imported the module by then.
_MODULES = frozenset(
    {
        *("callbacks", "command", "cron", "decorators", "exceptions", "group", "job", "queue"),
        *("connections", "rate_limit", "repeat", "utils", "version"),
        *("registry", "results", "serializers", "suspension", "timeouts", "webhook", "worker"),
        "worker_pool",
    }
)

# Written out for type checkers and linters. A test in tests/client compares it with _HOME.
__all__ = [
    "Callback",
    "Job",
    "Queue",
    "RateLimit",
    "Repeat",
    "Retry",
    "SimpleWorker",
    "Unique",
    "Webhook",
    "Worker",
    "__version__",
    "cancel_job",
    "chain",
    "current_fence",
    "extend_timeout",
    "get_current_job",
    "progress",
    "requeue_job",
    "use_redis",
]


def __getattr__(name: str) -> object:
    if name in _HOME or name in _MODULES:
        import importlib  # noqa: PLC0415 - `import rqd` alone shall load nothing

        if name in _MODULES:
            return importlib.import_module(f"rqd.{name}")
        return getattr(importlib.import_module(_HOME[name]), name)
    from rqd.client.rq_compat import absent  # noqa: PLC0415 - as above

    raise absent("rqd", name)


def __dir__() -> list[str]:
    return __all__
