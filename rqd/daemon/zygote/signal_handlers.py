"""Signal handlers of the zygote and its children, and of the processes that a job forks.

It is imported before the fork, so `_signal` is the C module, as in child.py.
"""

from __future__ import annotations

import _signal
from _functools import partial  # type: ignore[import-not-found]  # typeshed has it not
from _signal import SIG_DFL, SIGINT, default_int_handler
from os import register_at_fork

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.timer import raise_cpu_limit, raise_stop, raise_timeout

_NO_OP_SIGNALS = (
    *(_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP),
    *(_signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2),
)
_STOPPING_SIGNALS = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
_held: list[int] = []  # what was blocked before the fork
# Not a function in Python: a handler that raises at its first line would leave signals blocked for
# ever.
_let_go = partial(_signal.pthread_sigmask, _signal.SIG_SETMASK, _held)


def take_signals() -> None:
    """Installs the handlers of zygote and children, after the application's imports.

    A handler that does nothing keeps a `docker stop`, or systemd's TERM to all processes, from
    ending jobs. Unlike SIG_IGN, a job's own subprocesses do not inherit it through exec.
    """
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for signum in _NO_OP_SIGNALS:
        _signal.signal(signum, _do_nothing)
    ignore_stops()
    _signal.signal(_signal.SIGALRM, raise_timeout)
    _signal.signal(protocol.STOP_SIGNAL, raise_stop)
    _signal.signal(protocol.CPU_SIGNAL, raise_cpu_limit)
    # SIG_IGN here would make a job's own subprocess.run report 0 for everything.
    _signal.signal(_signal.SIGCHLD, SIG_DFL)


def ignore_stops() -> None:
    """Ignores terminal stops in this process and all that it forks or executes.

    An operator means the master, but `systemctl kill` signals all processes. Programs that a job
    executes inherit SIG_IGN, and go on likewise. A job that reads a terminal in the background gets
    an error; with a handler it would try again without end.
    """
    for signum in _STOPPING_SIGNALS:
        _signal.signal(signum, _signal.SIG_IGN)


def give_back_signals_at_fork() -> None:
    """Restores the default signals in processes that this process forks from now on.

    `multiprocessing` ends its processes by SIGTERM, and waits for that without a limit.
    """
    register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_give_back)


def _hold() -> None:
    # A signal that comes before the handlers are restored would be lost.
    _held[:] = _signal.pthread_sigmask(_signal.SIG_BLOCK, _NO_OP_SIGNALS)


def _give_back() -> None:
    for signum in _NO_OP_SIGNALS:
        if _signal.getsignal(signum) is _do_nothing:  # else it is the job's own
            _signal.signal(signum, default_int_handler if signum == SIGINT else SIG_DFL)
    _let_go()


def _do_nothing(_signum: int, _frame: object) -> None:
    pass
