"""Lists the threads and sockets that the application's modules open, which no fork has whole.

It runs in a process of its own, which `rqd doctor` starts: that imports the modules, and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def tell_imports(modules: Sequence[str]) -> None:
    """Imports each module, prints its threads and sockets as JSON, and ends the process."""
    told = []
    for module in modules:
        threads, sockets = _threads(), _sockets()
        begun = time.monotonic()
        __import__(module)
        told.append(
            {
                "module": module,
                "seconds": time.monotonic() - begun,
                "threads": _threads() - threads,
                "sockets": len(_sockets() - sockets),
            }
        )
    sys.stdout.write("\n" + json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # threads that were started would keep this process for ever


def _threads() -> int:
    """Counts all threads, also the threads of C code, which `threading` does not know."""
    return len(os.listdir("/proc/self/task"))


def _sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
