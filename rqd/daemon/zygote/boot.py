"""The boot of a zygote: imports the application, prepares its children, and serves (server.py).

Every fork pays for its imports; tests/unit/test_layout.py holds the list.
"""

from __future__ import annotations

import _socket
import faulthandler
import gc
import os
import sys
from _frozen_importlib_external import PathFinder
from _socket import AF_UNIX, SOCK_STREAM

from rqd import __version__
from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.child import Child, rehearse
from rqd.daemon.zygote.coroutines import event_loop
from rqd.daemon.zygote.fork_memory import fill_partial_pools, use_huge_pages
from rqd.daemon.zygote.fork_safety import ImportWatch
from rqd.daemon.zygote.protocol import FrameReader, encode_frame
from rqd.daemon.zygote.server import Zygote
from rqd.daemon.zygote.signal_handlers import ignore_stops, take_signals
from rqd.daemon.zygote.timer import timer
from rqd.model.current import of_process
from rqd.model.trust import Trust, read_trust

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rqd.model.middleware import Middleware

# When the kernel chooses a process to kill, it counts so many thousandths of the host's memory more
# for a job than for the master.
_OOM_SCORE_MORE, _HIGHEST_OOM_SCORE = 100, 1000
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep


def main(
    control_fd: int,
    jobs_per_child: int,
    preload: Sequence[str],
    learnt: Sequence[str] = (),
    around: tuple[Sequence[str], Sequence[str]] = ((), ()),
    passed_fds: tuple[int, int] = (-1, -1),
) -> None:
    """Imports the application, then forks until the control socket closes; exits the process.

    `learnt` are modules like `preload`, but their failure is reported and does not end the boot.
    `around` names middleware and exception handlers. `passed_fds` are the mark and the file with
    the keys, -1 for none. The mark stays open here and in all forks, and closes at an exec.
    """
    mark_fd, trust_fd = passed_fds
    control = _socket.socket(AF_UNIX, SOCK_STREAM, 0, control_fd)
    try:
        ignore_stops()
        if mark_fd >= 0:
            os.set_inheritable(mark_fd, False)
        set_title = _load_set_title()
        set_title(f"rqd: zygote, importing {' '.join(preload)}" if preload else "rqd: zygote")
        # The variable is for this process only. It goes after the first title, as setproctitle
        # needs the environment as the kernel laid it out.
        if os.environ.get("LD_BIND_NOW") == "rqd":
            del os.environ["LD_BIND_NOW"]
        _raise_oom_score()
        trust = _receive_trust(trust_fd) if trust_fd >= 0 else Trust()
        of_process.keyring = trust.keyring  # the application may enqueue while it is imported
        of_process.allowlist = trust.allowlist
        # Each child puts its slot's file at this number.
        stack_at_fd = timer.stack_fd = os.open(os.devnull, os.O_WRONLY)
        watch = ImportWatch()
        _import(preload, learnt, watch)
        middleware = _load_middleware(*around)
        watch.note("middleware and exception handlers")
        take_signals()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # ours, fresh
        rehearse(jobs_per_child, trust, stack_at_fd)
        of_process.middleware = middleware
        if jobs_per_child > 1:
            event_loop.keep()
        # Here and not in each child, where it costs three times as much a fork.
        faulthandler.enable(stack_at_fd)
        faulthandler.register(protocol.STACK_SIGNAL, stack_at_fd)
    except BaseException as failure:  # noqa: BLE001 - the master hears whatever it raises
        _tell(control, encode_frame(protocol.BOOT_FAILED, _traceback_of(failure)))
        os._exit(1)
    imported = ", ".join((*preload, *learnt))
    set_title(f"rqd: zygote ({imported})" if imported else "rqd: zygote")
    gc.collect()
    if imported:
        use_huge_pages()
    kept = fill_partial_pools()
    child = Child(jobs_per_child, set_title, trust)
    gc.freeze()  # children share these pages; a collection there would copy them
    facts = os.getpid(), __version__, _resident_bytes(), protocol.FORMAT
    texts = [str(fact).encode() for fact in facts]
    _tell(control, encode_frame(protocol.READY, *texts, *watch.report()))
    Zygote(control, child, stack_at_fd, kept).run()


def _import(preload: Sequence[str], learnt: Sequence[str], watch: ImportWatch) -> None:
    for module in preload:
        __import__(module)
        watch.note(module)
    for module in learnt:
        try:
            __import__(module)
        except BaseException as failure:  # noqa: BLE001 - the master hears of it by READY
            watch.note_error(module, failure)
        watch.note(module)


def _traceback_of(failure: BaseException) -> bytes:
    """Formats an error with the application's frames only."""
    import traceback  # noqa: PLC0415 - what is loaded before the fork is paid at each

    shown = failure.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        shown = shown.tb_next
    lines = traceback.format_exception(failure.with_traceback(shown))
    return "".join(lines).encode(errors="replace")


def _tell(control: _socket.socket, report: bytes) -> None:
    try:
        control.sendall(report)
    except OSError:
        os._exit(0)  # the master left while we were booting: there is nobody to work for


def _receive_trust(fd: int) -> Trust:
    with open(fd, "rb") as file:
        ((_, fields),) = FrameReader().feed(file.read())
    return read_trust(fields)


def _raise_oom_score() -> None:
    """Has the kernel kill a job before the master when memory runs out; children inherit it.

    Here and not before the exec: a master that has dropped root's rights may not write there.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            score = int(file.read()) + _OOM_SCORE_MORE
            file.write(str(min(score, _HIGHEST_OOM_SCORE)))
    except (OSError, ValueError):
        pass  # a sandbox may forbid it


def _load_middleware(
    middleware: Sequence[str], exception_handlers: Sequence[str]
) -> Middleware | None:
    if not middleware and not exception_handlers:
        return None
    from rqd.model.middleware import Middleware  # noqa: PLC0415 - each fork would pay for it

    return Middleware(middleware, exception_handlers)


def _load_set_title() -> Any:
    """Loads setproctitle's extension module alone; returns a function that sets the title.

    The package around it imports logging, whose at-fork hooks cost 0.3 ms a fork.
    """
    package = PathFinder.find_spec("setproctitle")
    if package is None or not package.submodule_search_locations:
        return lambda _title: None
    spec = PathFinder.find_spec("_setproctitle", list(package.submodule_search_locations))
    if spec is None or spec.loader is None:
        return lambda _title: None
    module = spec.loader.create_module(spec)
    if module is None:
        return lambda _title: None
    spec.loader.exec_module(module)
    return module.setproctitle


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
