"""What a child does at forks of its job, and for what the job has left running."""

import signal
import subprocess
import sys

import pytest

from tests.forks import ROOT

# The signal comes between the hooks before and after a fork, where no other code in Python runs.
FORKS_WHILE_STOPPED = """
import _signal, ctypes, os
from functools import partial
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote import signal_handlers
from rqd.daemon.zygote.timer import timer

signal_handlers.take_signals()
os.register_at_fork(before=partial(ctypes.CDLL(None).kill, os.getpid(), protocol.STOP_SIGNAL))
signal_handlers.give_back_signals_at_fork()
timer.runs = True
if os.fork() == 0:
    os._exit(len(_signal.pthread_sigmask(_signal.SIG_BLOCK, ())))
assert os.wait()[1] == 0
assert not _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
"""

LEAVES_ONE = """
import os, resource, signal, subprocess, time
{}
from rqd.daemon.zygote.exit_cleanup import end_children

os.setpgid(0, 0)
script = "trap '' TERM; echo; exec sleep 20"
subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE).stdout.readline()
{}
end_children()
os.killpg(0, signal.SIGKILL)
"""
# As the libraries do it that stop clocks for tests, whose user forgot to let them go on.
STOPPED_CLOCK = "time.monotonic = lambda: 1.0"
NO_DESCRIPTORS = "resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))"


def test_an_order_to_stop_that_comes_while_a_job_forks_leaves_no_signal_blocked() -> None:
    subprocess.run([sys.executable, "-c", FORKS_WHILE_STOPPED], check=True, timeout=20, cwd=ROOT)


@pytest.mark.parametrize(
    ("first", "then"),
    [("", ""), (STOPPED_CLOCK, ""), ("", NO_DESCRIPTORS)],
    ids=["usual", "stopped clock", "no descriptors"],
)
def test_a_child_waits_a_while_at_most_for_what_its_job_has_left_and_says_nothing(
    first: str, then: str
) -> None:
    program = LEAVES_ONE.format(first, then)
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=5, cwd=ROOT
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, "")
