"""Writes each Python call below the package `rqd` to a file: Python imports this module at start.

A line a call: time, pid, file. It is written at once, as children end by `os._exit`.
"""

import os
import sys
import time

_PACKAGE = os.environ["RQD_TRACED_PACKAGE"] + os.sep
_OUT = os.open(os.environ["RQD_TRACED_OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(frame, event, _argument):  # type: ignore[no-untyped-def]  # a profiler, called often
    if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
        file = frame.f_code.co_filename.removeprefix(_PACKAGE)
        os.write(_OUT, f"{time.time():.6f} {os.getpid()} {file}\n".encode())


sys.setprofile(_note)
