"""A machine with a systemd of its own for the tests: boot.sh makes it, nsenter goes into it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.daemons import ROOT
from tests.processes import bound_to_pytest
from tests.servers import RedisServer, default_binary
from tests.waiting import eventually

BOOT = Path(__file__).with_name("boot.sh")
BOOT_S = 15.0
COMMAND_S = 30.0
LIMIT_S = 120.0
SITE = next(path for path in sys.path if path.endswith("site-packages"))
# What the box sees of outside, read-only, and as whom.
SHOWN = {"python": sys.base_prefix, "site": SITE, "checkout": str(ROOT)}
SETTINGS = """
RQD_URL=unix:///srv/shop/redis.sock
RQD_QUEUES=rqd
RQD_WORKERS=1
RQD_OPTIONS=--path /srv/shop
TOLD=by rqd.env
"""
PAGE = ROOT / "systemd" / "README.md"
INSTALL = """
if ls /srv/python/lib/libpython*.so* >/dev/null 2>&1; then
    echo /srv/python/lib >/etc/ld.so.conf.d/rqd-box.conf
    ldconfig
fi
/srv/python/bin/python3 -m venv --without-pip /opt/rqd
printf '/srv/site\n/srv/checkout\n' >"$(echo /opt/rqd/lib/python3*/site-packages)/rqd.pth"
cat >/opt/rqd/bin/rqd <<'END'
#!/opt/rqd/bin/python
import sys
from rqd.__main__ import main
sys.exit(main())
END
chmod +x /opt/rqd/bin/rqd
"""


def why_not() -> str:
    """Why this machine can't have a box; empty if it can."""
    with tempfile.TemporaryDirectory(prefix="rqd-box-") as folder:
        tried = subprocess.run(
            [BOOT, "probe", folder], capture_output=True, text=True, timeout=COMMAND_S
        )
    return tried.stderr.strip() or "boot.sh failed" if tried.returncode else ""


class Box:
    """Booted when the block begins, gone with all its processes and cgroups when it ends.

    `shop` is /srv/shop there: the application, and the socket of a Redis server outside.
    """

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="rqd-box-", dir=os.environ.get("TMPDIR", "/tmp"))
        )
        self.shop = self.folder / "shop"
        self._mounts = self.folder / "mounts"
        for made in (self.folder, self.shop, self._mounts):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)
        self.server = RedisServer(default_binary(), self.shop, ("--unixsocketperm", "777"))
        self._unshare: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        try:
            self.server.start()
            self._boot()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def install(self) -> None:
        """Puts rqd, its units and its user there, by the commands of systemd/README.md.

        Only not by the first one: pip would take longer than all the tests.
        """
        commands = re.search(
            r"^```sh\n(python3 -m venv /opt/rqd .*\n)([^`]*)^```$", PAGE.read_text(), re.M
        )
        assert commands is not None
        self.do("sh", "-euc", INSTALL)
        self.write("/etc/rqd/rqd.env", SETTINGS, "644")
        self.do("sh", "-euc", f"cd /srv/checkout\n{commands[2]}")

    def run(self, *command: str, input: str = "") -> subprocess.CompletedProcess[str]:  # noqa: A002 - subprocess' word
        """What a command in the box came to, whatever that is."""
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), "--all", *command],
            input=input,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )

    def do(self, *command: str, input: str = "") -> str:  # noqa: A002 - as above
        """What a command wrote. Raises AssertionError unless it succeeded."""
        ran = self.run(*command, input=input)
        assert ran.returncode == 0, f"{command}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def write(self, path: str, text: str, mode: str = "600") -> None:
        """A file in the box, with its folders."""
        self.do("install", f"-Dm{mode}", "/dev/stdin", path, input=text)

    def show(self, unit: str, *names: str) -> list[str]:
        """Those of a unit's properties."""
        shown = self.do("systemctl", "show", unit, *(f"--property={name}" for name in names))
        told = dict(line.split("=", 1) for line in shown.splitlines())
        return [told[name] for name in names]

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The journal's entries that match, such as _SYSTEMD_UNIT=rqd.service, in their order."""
        told = self.do("journalctl", "--no-pager", "--quiet", "--output=json", "--all", *matches)
        return [json.loads(line) for line in told.splitlines()]

    def log(self, unit: str) -> str:
        """What a unit, and systemd about it, has written to the journal."""
        return self.do("journalctl", "--no-pager", "--quiet", "--output=cat", "--unit", unit)

    def processes(self, unit: str) -> dict[str, str]:
        """The titles of a unit's living processes by their pids."""
        group = self.show(unit, "ControlGroup")[0]
        if not group:
            return {}
        pids = self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()
        listing = self.run("ps", "--no-headers", "-o", "pid,args", "-p", ",".join(pids)).stdout
        return dict(line.split(maxsplit=1) for line in listing.splitlines())

    def _boot(self) -> None:
        shown = [part for name, path in SHOWN.items() for part in (path, name)]
        with (self.folder / "console").open("wb") as console:
            self._unshare = subprocess.Popen(
                [BOOT, "start", str(self._mounts), *shown, str(self.shop), "shop"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                preexec_fn=bound_to_pytest(LIMIT_S),
            )
        eventually(self._is_up, BOOT_S, self._console)

    def _is_up(self) -> bool:
        assert self._unshare is not None
        assert self._unshare.poll() is None, self._console()
        try:
            children = psutil.Process(self._unshare.pid).children()
            booting = [child.pid for child in children if child.name() == "systemd"]
        except psutil.NoSuchProcess:
            return False  # what makes the mounts, and has just left
        if not booting:
            return False
        self._pid = booting[0]
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _console(self) -> str:
        return f"the box boots: {(self.folder / 'console').read_text(errors='replace')}"

    def _remove(self) -> None:
        if self._unshare is not None:
            self._unshare.kill()  # and with it, by --kill-child, all processes of the box
            self._unshare.wait()
        if self.server.running:
            self.server.stop()
        shutil.rmtree(self.folder)
        # The kernel takes a moment for the last of the processes.
        eventually(self._has_no_cgroup, message="the box's cgroup goes")

    def _has_no_cgroup(self) -> bool:
        swept = subprocess.run([BOOT, "sweep"], capture_output=True, text=True, timeout=COMMAND_S)
        own = self._unshare and f"rqd-box-{self._unshare.pid}"
        return swept.returncode == 0 and own not in swept.stdout.split()
