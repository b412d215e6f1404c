"""The history of queues as the charts and tables of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rqd.model.history import FINISHED, REPEATED, Histogram, Numbers
from rqd.store.history import FUNCTIONS_KEPT_S, HOUR_S, MINUTE_S, Interval
from rqd.store.keys import ALL_QUEUES
from rqd.web.frame import BadRequestError, Data, Look

_DAY_S = 24 * HOUR_S
# Each span's length and the width of its intervals: enough of them for a line, few keys to read.
SPANS = {
    "1h": (HOUR_S, MINUTE_S),
    "6h": (6 * HOUR_S, 5 * MINUTE_S),
    "24h": (_DAY_S, HOUR_S),
    "7d": (7 * _DAY_S, 3 * HOUR_S),
    "30d": (30 * _DAY_S, 12 * HOUR_S),
}
# Masters write every five seconds; a long span changes little in a while, and is dear to read.
_KEPT_S = {"1h": 5.0, "6h": 15.0}
_KEPT_LONG_S = 60.0
_MOST_QUEUES, _MOST_CAUSES, _MOST_FUNCTIONS = 100, 7, 100


def charts(look: Look, queue: str = "") -> Data:
    """Reads the series of a queue, or of all queues that the visitor may see.

    The parameter `span` is one of SPANS. Times are seconds since 1970; an interval without an
    ended run has no percentiles. Raises BadRequestError.
    """
    span = look.param("span", "1h")
    if span not in SPANS:
        raise BadRequestError(f"span {span!r}: choose {', '.join(SPANS)}")
    names = _queues(look, queue)
    kept_s = _KEPT_S.get(span, _KEPT_LONG_S)
    return look.kept.value(("charts", span, *names), kept_s, lambda: _read(look, names, span))


def functions(look: Look, queue: str) -> list[dict[str, Any]]:
    """Reads the numbers of a queue's functions within the span, of seven days at most."""
    since_s, _ = SPANS[look.param("span", "1h")]

    def read() -> list[dict[str, Any]]:
        now_us = look.backend.views.now_us()
        since_us = now_us - min(since_s, FUNCTIONS_KEPT_S) * 1_000_000
        found = look.backend.views.function_history(queue, since_us, now_us)
        most = sorted(found.items(), key=lambda pair: -pair[1].ended)[:_MOST_FUNCTIONS]
        return [_function(look.redact(name), numbers) for name, numbers in most]

    return look.kept.value(("functions", since_s, queue), _KEPT_LONG_S / 4, read)


def _queues(look: Look, queue: str) -> Sequence[str]:
    if queue:
        return (queue,)
    if look.access.sees_all:
        return (ALL_QUEUES,)
    return tuple(row["name"] for row in look.seen.queues)[:_MOST_QUEUES]


def _read(look: Look, queues: Sequence[str], span: str) -> Data:
    since_s, width_s = SPANS[span]
    views = look.backend.views
    now_us = views.now_us()
    found = views.history(queues, now_us - since_s * 1_000_000, now_us, width_s)
    causes = Counter[str]()
    for one in found:
        causes.update(one.numbers.causes)
    shown = sorted(name for name, _ in causes.most_common(_MOST_CAUSES))
    return {
        "span": span,
        "spans": list(SPANS),
        "width_s": width_s,
        "times": [one.start_us // 1_000_000 for one in found],
        "succeeded": [_succeeded(one.numbers) for one in found],
        "failed": [one.numbers.failed for one in found],
        "causes": {name: [one.numbers.causes.get(name, 0) for one in found] for name in shown},
        **{name: _times(found, name) for name in ("wait", "run")},
    }


def _succeeded(numbers: Numbers) -> int:
    return numbers.became.get(FINISHED, 0) + numbers.became.get(REPEATED, 0)


def _times(found: Sequence[Interval], kind: str) -> dict[str, list[float | None]]:
    histograms: list[Histogram] = [getattr(one.numbers, kind) for one in found]
    return {f"p{at}": [_rounded(one.percentile(at)) for one in histograms] for at in (50, 95)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _function(name: str, numbers: Numbers) -> dict[str, Any]:
    memory = numbers.memory.percentile(95)
    return {
        "name": name,
        "ended": numbers.ended,
        "failed": numbers.failed,
        "causes": {one: count for one, count in numbers.causes.items() if count},
        "run_p50_s": _rounded(numbers.run.percentile(50)),
        "run_p95_s": _rounded(numbers.run.percentile(95)),
        "cpu_s": round(numbers.cpu_s, 3),
        "memory_p95_bytes": None if memory is None else int(memory),
    }
