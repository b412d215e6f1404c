"""A zygote that nobody waits for any more."""

import subprocess
import sys
from _socket import AF_UNIX, SOCK_STREAM, socketpair

from tests.daemons import ROOT


def test_a_zygote_whose_master_left_while_it_booted_leaves_in_silence() -> None:
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    fd = theirs.fileno()
    program = f"from rqd.daemon.zygote_boot import main; main({fd}, 1, [])"
    ours.close()

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        pass_fds=[fd],
        stderr=subprocess.PIPE,
        timeout=20,
        process_group=0,
    )
    theirs.close()

    assert (ended.returncode, ended.stderr) == (0, b"")
