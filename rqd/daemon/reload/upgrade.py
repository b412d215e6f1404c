"""An upgrade: the master is replaced by a newer one in the same process, and its jobs run on.

First the new version is tried in a process of its own, with what it is to take over: does it
import, does it read its settings, can it go on from here? Then nothing is claimed until all that
ended is recorded, and the new version is executed. What jobs do meanwhile waits in their pipes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from rqd.daemon.host.life_pipe import end_with_master
from rqd.daemon.host.pidfd_signals import watched
from rqd.daemon.jobs.dispatch import Dispatch
from rqd.daemon.log.log import Log
from rqd.daemon.loop import Loop
from rqd.daemon.processes.children import Children
from rqd.daemon.redis_link import RedisLink
from rqd.daemon.reload import handover
from rqd.daemon.reload.handover import Handover
from rqd.daemon.signals import HANDLED

_TRIAL_LIMIT_S = 30.0
# A zygote may boot meanwhile, or be on its way out.
_SETTLE_LIMIT_S = 60.0
# What is recorded by then would have been in a second.
_REST_LIMIT_S = 2.0
_SHOWN_BYTES = 8 * 1024


class Trial:
    """A process of the new version, which ends with 0 if it can go on from here."""

    def __init__(self, handover_fd: int, now: float) -> None:
        self.give_up_at = now + _TRIAL_LIMIT_S
        with ExitStack() as opened:
            self._output_fd = os.memfd_create("rqd-trial")
            opened.callback(os.close, self._output_fd)
            life_read, self._life_write = os.pipe()
            opened.callback(os.close, self._life_write)
            try:
                self._process = self._execute(handover_fd, life_read)
            finally:
                os.close(life_read)
            self.pid = self._process.pid
            self.pidfd = watched(self._process)
            opened.pop_all()  # they are this object's now

    def _execute(self, handover_fd: int, life_read: int) -> subprocess.Popen[bytes]:
        die = partial(end_with_master, life_read, self._life_write, signal.SIGKILL)
        return subprocess.Popen(
            _command(),
            stdin=subprocess.DEVNULL,
            stdout=self._output_fd,
            stderr=self._output_fd,
            env=handover.environment_with(handover_fd),
            pass_fds=[handover_fd, life_read],
            process_group=0,
            # The master has one thread.
            preexec_fn=die,  # noqa: PLW1509
        )

    def is_over(self, now: float) -> bool:
        """True once it has ended, or takes too long: then it is killed."""
        if self._process.poll() is None and now >= self.give_up_at:
            os.write(self._output_fd, b"\nit had not ended after %d s" % _TRIAL_LIMIT_S)
            self._process.kill()
            self._process.wait()
        return self._process.poll() is not None

    def error(self) -> str:
        """What speaks against the new version; empty for nothing."""
        if self._process.returncode == 0:
            return ""
        told = os.pread(self._output_fd, 2**20, 0)[-_SHOWN_BYTES:].decode(errors="replace").strip()
        told = told.removeprefix("rqd: ")  # as each command begins what it says of a mistake
        return told or f"it ended with {self._process.returncode}"

    def end(self) -> None:
        """Kills it, if it still runs."""
        self._process.kill()
        self._process.wait()
        os.close(self.pidfd)
        os.close(self._output_fd)
        os.close(self._life_write)


class Upgrade:
    """The one that is under way, if any."""

    def __init__(
        self,
        children: Children,
        dispatch: Dispatch,
        link: RedisLink,
        loop: Loop,
        tell: Callable[[str, bool], Handover],
        log: Log,
    ) -> None:
        """`tell` makes what is handed over: for a command's id; whether it is for a trial."""
        self._children = children
        self._dispatch = dispatch
        self._link = link
        self._loop = loop
        self._tell = tell
        self._log = log
        self._request = ""
        self._trial: Trial | None = None
        self._settle_by: float | None = None
        self._rest_by: float | None = None

    @property
    def is_under_way(self) -> bool:
        """True from the command until it is refused, or this program is no more."""
        return bool(self._request)

    @property
    def pids(self) -> set[int]:
        """Of a trial that runs."""
        return {self._trial.pid} if self._trial is not None else set()

    def next_due(self) -> float:
        """When `perform` has something to do, at the latest."""
        due = [self._rest_by or self._settle_by, self._trial.give_up_at if self._trial else None]
        return min([at for at in due if at is not None], default=float("inf"))

    def begin(self, request: str, now: float) -> None:
        """Tries the new version. `request` is the id of the command that asked for the upgrade."""
        if self.is_under_way:
            self._children.refuse_reload(request, "another upgrade is under way")
            return
        self._request = request
        if not self._children.is_ready:
            why = self._children.zygotes.why_none or "it boots"
            self._refuse(f"no zygote serves, of which the jobs could run on: {why}")
            return
        self._log.info("upgrading", pid=os.getpid())
        try:
            fd = handover.write(self._tell(request, True))
            try:
                self._trial = Trial(fd, now)
            finally:
                os.close(fd)
        except (OSError, subprocess.SubprocessError, TypeError) as error:
            self._refuse(str(error))
            return
        self._loop.watch(self._trial.pidfd)

    def perform(self, now: float) -> None:
        """Hears how the trial went, and executes the new version once all is at rest."""
        if self._trial is not None:
            self._hear_trial(self._trial, now)
        if not self.is_under_way or self._trial is not None:
            return
        if not self._children.zygotes.is_settled:
            self._hold(None)
            self._settle_by = self._settle_by or now + _SETTLE_LIMIT_S
            if now >= self._settle_by:
                self._refuse(f"a zygote boots, leaves or hears nothing since {_SETTLE_LIMIT_S:g} s")
        elif self._rest_by is None:
            self._hold(now + _REST_LIMIT_S)
        elif now >= self._rest_by:
            self._refuse(f"Redis has not recorded what ended within {_REST_LIMIT_S:g} s")
        if self._rest_by is not None and not self._dispatch.has_unfinished:
            self._execute()

    def cancel(self) -> None:
        """The daemon stops."""
        self._end_trial()
        self._hold(None)
        self._request, self._settle_by = "", None

    def _hear_trial(self, trial: Trial, now: float) -> None:
        if not trial.is_over(now):
            return
        error = trial.error()
        self._end_trial()
        if error:
            self._refuse(error)

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._loop.forget(self._trial.pidfd)
            self._trial.end()
            self._trial = None

    def _hold(self, until: float | None) -> None:
        self._rest_by = until
        self._dispatch.is_held = until is not None

    def _execute(self) -> None:
        """Does not return where all goes well, nor leave anything to do where a signal came."""
        with _signals_held():
            if self._loop.has_signals():
                return  # what they ask for comes first
            self._link.close()
            state = self._tell(self._request, False)
            handover_fd = -1
            try:
                handover_fd = handover.write(state)
                _inherit((*state.fds, handover_fd), yes=True)
                os.execve(sys.executable, _command(), handover.environment_with(handover_fd))
            except (OSError, TypeError) as error:
                _inherit(state.fds, yes=False)
                if handover_fd >= 0:
                    os.close(handover_fd)
                self._refuse(str(error))

    def _refuse(self, error: str) -> None:
        self._hold(None)
        self._dispatch.look()
        request, self._request, self._settle_by = self._request, "", None
        self._children.refuse_reload(request, f"rqd itself stays as it is: {error}")


def _command() -> list[str]:
    """This process's own, as it was typed; the interpreter is found anew where it was found."""
    return [sys.executable, *sys.orig_argv[1:]]


def _inherit(fds: Sequence[int], *, yes: bool) -> None:
    for fd in fds:
        os.set_inheritable(fd, yes)


@contextmanager
def _signals_held() -> Iterator[None]:
    """A signal during an exec would find no handler, and end the process: it waits instead.

    The program that is executed lets them come once it has handlers for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
