"""Tools for tests of code that uses rqd: run queues' jobs, and kill a job at each of its lines.

`Queue(is_async=False)` runs each job at once; the fixtures of `pytest_plugin.py` give a test a
server of its own. The names below load their modules when they are first used, as pytest loads this
package in every run.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import no test has asked for
if TYPE_CHECKING:
    from rqd.testing.crashes import CrashPoint as CrashPoint
    from rqd.testing.crashes import assert_idempotent as assert_idempotent
    from rqd.testing.crashes import crash_points as crash_points
    from rqd.testing.queues import embedded_server as embedded_server
    from rqd.testing.queues import run_jobs as run_jobs

_HOME = {
    "CrashPoint": "rqd.testing.crashes",
    "assert_idempotent": "rqd.testing.crashes",
    "crash_points": "rqd.testing.crashes",
    "embedded_server": "rqd.testing.queues",
    "run_jobs": "rqd.testing.queues",
}

# Written out for type checkers and linters.
__all__ = ["CrashPoint", "assert_idempotent", "crash_points", "embedded_server", "run_jobs"]


def __getattr__(name: str) -> object:
    from rqd.client.rq_compat import names_elsewhere  # noqa: PLC0415 - see the docstring

    return names_elsewhere("rqd.testing", _HOME)(name)


def __dir__() -> list[str]:
    return __all__
