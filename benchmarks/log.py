"""What one line of the daemon's log costs to make: `python -m benchmarks.log`.

Microseconds of CPU, without the write; the best of some rounds, as other work only adds to it.
"""

from __future__ import annotations

import time

from rqd.daemon.log.formats import Format, JournalFormat, JsonFormat, TextFormat
from rqd.daemon.log.log import Log

_ROUNDS, _LINES = 9, 20_000
_JOB = {"job_id": "0b5c0f3e-8a4e-4c7b-9e3d-5b1f6a2c7d80", "func": "shop.tasks.send_mail"}
_FEW = {**_JOB, "queue": "default", "worker": 3, "run_ms": 12.5}
_ALL = {**_JOB, "queue": "default", "attempt": 1, "worker": 3, "pid": 4711, "run_ms": 12.5}


class Nowhere:
    """A sink that forgets."""

    dropped_bytes = 0

    def write(self, record: bytes) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def microseconds(form: Format, fields: dict[str, object]) -> float:
    """Of CPU for `job finished` with these fields."""
    log = Log(Nowhere(), form)
    best_s = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_LINES):
            log.info("job finished", **fields)
        best_s = min(best_s, time.process_time() - began)
    return best_s / _LINES * 1e6


def main() -> None:
    """Prints a line a format: with five fields, and with all seven."""
    print("microseconds a line   5 fields  7 fields")
    for name, form in (
        ("text", TextFormat()),
        ("json", JsonFormat()),
        ("journal", JournalFormat()),
    ):
        few, every = microseconds(form, {**_FEW}), microseconds(form, {**_ALL})
        print(f"{name:20} {few:9.1f} {every:9.1f}")


if __name__ == "__main__":
    main()
