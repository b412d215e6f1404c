"""Jobs that behave badly: each fault is one such job among the common work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.torture.calls import FAILED, FINISHED, Call
from tests.torture.faults import Fault, Injected, Lane, Missed, Target


def send(target: Target, *calls: Call, fault: str) -> Injected:
    """Enqueues the calls of a fault, one by one."""
    ids: list[str] = []
    for call in calls:
        ids += target.arena.bad_producer.send([call], fault)
    if not ids:
        raise Missed("the enqueue did not come through")
    return Injected("job", jobs=tuple(ids))


def _bad(name: str, function: str, end: str, *args: Any, often: int = 3, **options: Any) -> Fault:
    def inject(target: Target) -> Injected:
        queue = target.rng.choice(("high", "default"))
        call = Call(name, function, args, (end,), queue, **options)
        return send(target, call, fault=name)

    systems = ("rqd",) if "more" in options else ("rqd", "rq")
    return Fault(name, "jobs", Lane.JOBS, inject, often=often, systems=systems)


_MB = 1024 * 1024
_make: Callable[..., Fault] = _bad
FAULTS = (
    _make("os._exit(0)", "leave", FAILED),
    _make("segfault", "segfault", FAILED),
    _make("sys.exit", "sys_exit", FAILED),
    _make("recursion error", "recurse", FAILED),
    _make("daemon left behind", "leave_daemon", FINISHED, 25.0),
    _make("closed stdout and stderr", "close_output", FINISHED),
    _make("flooded stdout and stderr", "flood_output", FINISHED, 2 * _MB),
    _make("inherited descriptors closed", "close_descriptors", FAILED),
    _make("timeout swallowed", "swallow_timeouts", FAILED, often=1, timeout_s=0.3),
    _make("C loop that holds the GIL", "hold_the_gil", FAILED, often=1, timeout_s=0.3),
    _make("memory eater, 150 MB", "eat_memory", FINISHED, 150 * _MB),
    _make("memory limit passed", "hoard", FAILED, 100 * _MB, more={"max_memory": "40M"}),
    _make("cpu time passed", "hold_the_gil", FAILED, more={"max_cpu": 1.0}),
    _make("threads left running", "leave_threads", FINISHED),
    _make("result of 100 MB", "produce", FAILED, 100 * _MB, often=1),
    _make("unpicklable result", "unpicklable", FAILED),
)
