"""What no daemon can do without, and a kernel, a container or its seccomp profile may withhold."""

from __future__ import annotations

import os
import signal

from rqd.model.errors import ConfigurationError

_CALLS_ADVICE = (
    "it takes Linux 5.3 or newer, and a container engine or seccomp profile that lets it through"
)
_PROC_ADVICE = "mount the one of its own process namespace there: mount -t proc proc /proc"


def check_kernel() -> None:
    """Raises ConfigurationError where something is withheld, with what to do about it."""
    # Of another namespace it would show strangers' processes under the pids of ours.
    if _own_pid() != str(os.getpid()):
        raise ConfigurationError(f"/proc does not show this process: {_PROC_ADVICE}")
    call = "pidfd_open"
    try:
        pidfd = os.pidfd_open(os.getpid())
        try:
            call = "pidfd_send_signal"
            signal.pidfd_send_signal(pidfd, 0)
        finally:
            os.close(pidfd)
        call = "memfd_create"
        os.close(os.memfd_create("rqd"))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigurationError(f"{call} is refused here ({why}): {_CALLS_ADVICE}") from None


def _own_pid() -> str:
    try:
        return os.readlink("/proc/self")
    except OSError:
        return ""
