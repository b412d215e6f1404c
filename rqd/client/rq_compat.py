"""Names that some version of RQ has and rqd has not: their import's error names the replacement.

docs/migrating-from-rq.md has the same names, with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module

from rqd.model.errors import ConfigurationError

_CONNECTIONS = "call use_redis(..) once, or hand connection= to Queue, Worker and Job.fetch"
_LIVES = "every daemon starts jobs from a clean process and stops in order: write Worker"
_STOPS = "a job that a stop cuts short goes back to its queue by itself: leave it out"
_CLOCK = "write datetime.now(UTC)"
_TIMEOUTS = "a job's time limit needs no class of its own: leave it out"

_INSTEAD = {
    "Connection": _CONNECTIONS,
    "push_connection": _CONNECTIONS,
    "use_connection": _CONNECTIONS,
    "get_current_connection": "write get_current_job().connection",
    "get_failed_queue": "write queue.failed_job_registry",
    "VERSION": "write rqd.__version__",
    "HerokuWorker": _LIVES,
    "SpawnWorker": _LIVES,
    "BaseDeathPenalty": _TIMEOUTS,
    "TimerDeathPenalty": _TIMEOUTS,
    "UnixSignalDeathPenalty": _TIMEOUTS,
    "BaseTimeoutException": "write JobTimeoutException",
    "HorseMonitorTimeoutException": _TIMEOUTS,
    "ShutDownImminentException": _STOPS,
    "StopRequested": _STOPS,
    # of rq.utils, rq.connections, rq.rate_limit and rq.command
    "now": _CLOCK,
    "utcnow": _CLOCK,
    "current_timestamp": "write int(time.time())",
    "as_text": "write value.decode()",
    "import_attribute": "write importlib.import_module(..) and getattr(..)",
    "parse_timeout": 'leave it out: every duration may be seconds or a text such as "1h"',
    "get_version": "write connection.info('server')['redis_version']",
    "get_connection_kwargs": "write connection.connection_pool.connection_kwargs",
    "parse_connection": "leave it out: every connection= takes a client of redis-py",
    "RateLimitRegistry": "write job.limited_by, or run rqd limits",
    "send_command": "write send_stop_job_command, send_shutdown_command or send_kill_horse_command",
    "send_stop_execution_command": "write send_stop_job_command: a job runs once at a time",
    "InvalidJobDependency": "write NoSuchJobError",
    "InvalidJobOperationError": "write InvalidJobOperation",
    "TimeoutFormatError": "write ConfigurationError",
}


def names_elsewhere(module: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Returns a module's `__getattr__`, which loads a name from its home at its first use.

    Other names raise the error of `absent`.
    """

    def find(name: str) -> object:
        if home := homes.get(name):
            return getattr(import_module(home), name)
        raise absent(module, name)

    return find


def refuse_overrides(kind: type, called_by_rq: Collection[str], instead: str) -> None:
    """Raises ConfigurationError for a class with a method that RQ calls and rqd does not."""
    own = [one for one in kind.__mro__ if not one.__module__.startswith("rqd.")]
    for name in sorted(set(called_by_rq) & {name for one in own for name in vars(one)}):
        raise ConfigurationError(f"{kind.__name__}.{name}() would never be called: {instead}")


def absent(module: str, name: str) -> Exception:
    """Makes the error to raise about a name that a module has not.

    For RQ's names it is an ImportError: `from rqd import Connection` would replace an
    AttributeError, and its advice, by a bare "cannot import name".
    """
    if advice := _INSTEAD.get(name):
        return ImportError(f"{module} has no {name}: {advice}", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}")
