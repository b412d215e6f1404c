"""Jobs in a module that takes 300 ms to import, and notes each import in BENCH_IMPORTS."""

import os
import time

with open(os.environ["BENCH_IMPORTS"], "a", encoding="ascii") as _noted:
    _noted.write(f"{os.getpid()}\n")
_end = time.thread_time() + 0.3
while time.thread_time() < _end:
    pass


def noop() -> int:
    """Does nothing."""
    return 1
