"""A process that has imported the `rqd` command, and becomes it as often as `forks.Fork` asks.

Python's start and the imports are most of what a command costs, and nearly all that a daemon's
start does; here they are paid once. Each command is a fork, with arguments, folder, environment
and streams of its own, and ends as any interpreter does.
"""

import ctypes
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

import setproctitle

import rqd.cli

LARGEST_BYTES = 200_000
_MOST_FDS = 4096
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def wait_for_a_command(door: socket.socket) -> None:
    """Return in a process that is to run a command; the one that was called goes on for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who watches a command is waited for by nobody
    while True:
        asked, fds, _, _ = socket.recv_fds(door, LARGEST_BYTES, 3)
        if not asked:
            os._exit(0)
        stem_pid = os.getpid()
        if not os.fork():
            _die_with(stem_pid)
            out, err, told = fds
            _watch_another(told)
            _become(json.loads(asked), out, err)
            return
        for fd in fds:
            os.close(fd)


def _watch_another(told: int) -> None:
    """Return in another process; tell its pid and pidfd, then how it ended, as subprocess does.

    It is a zombie until that was told: nobody else gets its pid before.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watcher_pid = os.getpid()
    command = os.fork()
    if not command:
        _die_with(watcher_pid)
        return
    with socket.socket(fileno=told) as teller:
        socket.send_fds(teller, [str(command).encode()], [os.pidfd_open(command)])
        ended = os.waitid(os.P_PID, command, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        by_itself = ended.si_code == os.CLD_EXITED
        teller.sendall(str(ended.si_status if by_itself else -ended.si_status).encode())
        os.waitpid(command, 0)
    os._exit(0)


def _die_with(parent_pid: int) -> None:
    """Be killed at the parent's end: the stem's is pytest's, whatever ends that."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _become(asked: dict[str, Any], out: int, err: int) -> None:
    for fd, stream in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(stream, fd)
    os.closerange(3, _MOST_FDS)
    if asked["own_session"]:
        os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    sys.path[0] = asked["folder"]
    sys.argv = [str(Path(rqd.__file__).with_name("__main__.py")), *asked["arguments"]]
    signal.setitimer(signal.ITIMER_REAL, asked["limit_s"])


if __name__ == "__main__":
    for module in pkgutil.iter_modules(rqd.cli.__path__):
        import_module(f"rqd.cli.{module.name}")
    for name in ("master", "autoreload", "host.embedded"):
        import_module(f"rqd.daemon.{name}")
    import_module("rqd.integrations.otel")
    # It finds where titles go by the first environment, which `_become` drops.
    setproctitle.getproctitle()
    gc.freeze()
    wait_for_a_command(socket.socket(fileno=int(sys.argv[1])))
    rqd.cli.main()
