"""A process that has imported the `rqd` command, and is it as often as `running.rqd` asks.

Python's start and the imports are most of what a command costs; here they are paid once. Each
command is a fork, with arguments, folder, environment and streams of its own, and ends as any
interpreter does. The examples of the docs run the command from its start.
"""

import gc
import json
import os
import pkgutil
import signal
import socket
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import rqd.cli

LARGEST_BYTES = 200_000
_MOST_FDS = 4096


def wait_for_a_command(door: socket.socket) -> None:
    """Return in a process that is to run a command; the one that was called goes on for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who watches a command is waited for by nobody
    while True:
        asked, fds, _, _ = socket.recv_fds(door, LARGEST_BYTES, 3)
        if not asked:
            os._exit(0)
        if not os.fork():
            out, err, told = fds
            _watch_another(told)
            _become(json.loads(asked), out, err)
            return
        for fd in fds:
            os.close(fd)


def _watch_another(told: int) -> None:
    """Return in another process; tell how that ended, as subprocess does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if command:
        _, status = os.waitpid(command, 0)
        os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def _become(asked: dict[str, Any], out: int, err: int) -> None:
    for fd, stream in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(stream, fd)
    os.closerange(3, _MOST_FDS)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    sys.path[0] = asked["folder"]
    sys.argv = [str(Path(rqd.__file__).with_name("__main__.py")), *asked["arguments"]]
    sys.orig_argv = [sys.executable, "-m", "rqd", *asked["arguments"]]
    signal.setitimer(signal.ITIMER_REAL, asked["limit_s"])


if __name__ == "__main__":
    for module in pkgutil.iter_modules(rqd.cli.__path__):
        import_module(f"rqd.cli.{module.name}")
    for name in ("supervisor", "autoreload", "embedded", "upgrade"):
        import_module(f"rqd.daemon.{name}")
    import_module("rqd.integrations.otel")
    gc.freeze()
    wait_for_a_command(socket.socket(fileno=int(sys.argv[1])))
    rqd.cli.main()
