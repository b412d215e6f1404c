"""What the application's modules bring that a fork does not bear.

It runs in a process of its own, which imports them and ends: `rqd doctor` starts it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def tell_imports(modules: Sequence[str]) -> None:
    """Imports each module, and prints what it brought that a fork does not bear: as JSON."""
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
    """Those of C code too, which Python's own count misses."""
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
