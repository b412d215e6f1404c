"""Zygotes that die, or lack what they fork with, and what their daemon makes of it."""

from __future__ import annotations

import re
from pathlib import Path

from rqd import Queue
from tests import jobs
from tests.daemons import StartDaemon
from tests.waiting import eventually

WAIT_S = 15.0


def test_a_zygote_that_dies_whenever_it_has_forked_is_replaced_after_a_growing_pause(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os, threading\n"
        "def die_soon():\n"
        "    if os.path.exists('die'):\n"
        "        threading.Timer(0.05, os._exit, (3,)).start()\n"
        "os.register_at_fork(after_in_parent=die_soon)\n"
    )
    (tmp_path / "die").touch()
    daemon = start_daemon("--preload", "deadly", cwd=tmp_path)
    lost = re.compile(r"zygote lost .*restart_in_s=([\d.]+)")

    eventually(lambda: len(lost.findall(daemon.log())) >= 5, WAIT_S, daemon.log)

    assert [float(told) for told in lost.findall(daemon.log())[:5]] == [0, 0.2, 0.4, 0.8, 1.6]
    (tmp_path / "die").unlink()
    assert queue.enqueue(jobs.multiply, 2, 3).wait(WAIT_S).return_value() == 6
