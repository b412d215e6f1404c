"""rqd: job queues for Python on Redis, run by a forking supervisor daemon.

The names below load what they need when they are first used (PEP 562): a task module that says
`from rqd import Queue` costs the zygote little, and the child no Redis.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

if TYPE_CHECKING:
    from rqd.callback_terms import Callback as Callback
    from rqd.connection import use_redis as use_redis
    from rqd.job import Job as Job
    from rqd.job import cancel_job as cancel_job
    from rqd.job import get_current_job as get_current_job
    from rqd.job import requeue_job as requeue_job
    from rqd.model.limits import RateLimit as RateLimit
    from rqd.model.limits import Unique as Unique
    from rqd.model.repeat import Repeat as Repeat
    from rqd.model.retry import Retry as Retry
    from rqd.options import chain as chain
    from rqd.queue import Queue as Queue
    from rqd.running import current_fence as current_fence
    from rqd.running import extend_timeout as extend_timeout
    from rqd.running import progress as progress
    from rqd.simple import SimpleWorker as SimpleWorker
    from rqd.webhook import Webhook as Webhook
    from rqd.worker import Worker as Worker

_HOME = {
    "Callback": "rqd.callback_terms",
    "Job": "rqd.job",
    "Queue": "rqd.queue",
    "RateLimit": "rqd.model.limits",
    "Repeat": "rqd.model.repeat",
    "Retry": "rqd.model.retry",
    "SimpleWorker": "rqd.simple",
    "Unique": "rqd.model.limits",
    "Webhook": "rqd.webhook",
    "Worker": "rqd.worker",
    "cancel_job": "rqd.job",
    "chain": "rqd.options",
    "current_fence": "rqd.running",
    "extend_timeout": "rqd.running",
    "progress": "rqd.running",
    "get_current_job": "rqd.job",
    "requeue_job": "rqd.job",
    "use_redis": "rqd.connection",
}

# Modules that `import rq` makes attributes of it: `rqd.job.Job` is written, and it would depend on
# who else has imported the module by then.
_MODULES = frozenset(
    {
        *("command", "exceptions", "group", "job", "queue", "registry", "results"),
        *("serializers", "suspension", "timeouts", "worker"),
    }
)

# Written out: what type checkers and linters read. tests/client holds it and _HOME together.
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
    from rqd.absent import absent  # noqa: PLC0415 - as above

    raise absent("rqd", name)


def __dir__() -> list[str]:
    return __all__
