"""`--autoreload`: the code is taken anew whenever it has changed."""

import signal
from pathlib import Path

import pytest

from rqd import Queue
from rqd.daemon.autoreload import places_of
from tests.cli.running import rqd
from tests.daemons import StartDaemon, alive
from tests.waiting import eventually


def has_begun(pid: int) -> bool:
    """True once the process has asked the kernel for news of files."""
    try:
        infos = [info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
    except FileNotFoundError:
        return False  # one was closed meanwhile
    return any("inotify wd:" in info for info in infos)


def test_a_change_of_the_code_reloads_it_and_a_broken_one_is_refused(
    start_daemon: StartDaemon, queue: Queue, tmp_path: Path
) -> None:
    folder = tmp_path / "application"
    folder.mkdir()
    code = folder / "shop.py"
    code.write_text("def price(): return 100\n")
    daemon = start_daemon("--preload", "shop", "--autoreload", cwd=folder)
    (watching,) = (p for p in daemon.tree() if "report_changes" in " ".join(p.cmdline()))

    eventually(lambda: has_begun(watching.pid), 10.0)

    code.write_text("import no_such_module\n")
    eventually(lambda: "No module named 'no_such_module'" in daemon.log(), 10.0, daemon.log)
    assert "code changed file=shop.py" in daemon.log()
    assert queue.enqueue("shop.price").wait(10).return_value() == 100
    code.write_text("def price(): return 90\n")
    eventually(lambda: " reloaded " in daemon.log(), 10.0, daemon.log)
    assert queue.enqueue("shop.price").wait(10).return_value() == 90
    daemon.signal(signal.SIGKILL)
    eventually(lambda: not alive(watching))


def test_without_the_library_the_start_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys\nsys.modules['watchfiles'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    ran = rqd("start", "--autoreload", env={"PYTHONPATH": str(tmp_path)})
    assert (ran.status, ran.out) == (64, "")
    assert ran.err == "rqd: --autoreload needs watchfiles: pip install 'rqd[autoreload]'\n"


def test_packages_are_watched_where_they_are_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("app", "lib/mail/parts"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lib" / "mail" / "__init__.py").write_text("raise SystemExit\n")
    (tmp_path / "lib" / "single.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    app, mail, single = (tmp_path / name for name in ("app", "lib/mail", "lib/single.py"))

    assert places_of([str(app)], ["mail.parts", "mail", "single", "sys", "no_such"]) == [
        *(app, mail, single)
    ]
    assert places_of([str(tmp_path)], ["mail.parts", "single"]) == [tmp_path]
