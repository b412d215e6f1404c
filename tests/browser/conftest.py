"""A dashboard with jobs of interest, as Chromium shows it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from rqd import Job, Queue, RateLimit
from rqd.client.connection import Backend
from rqd.client.cron import register
from rqd.store.connection import client_connection
from rqd.store.store import Store
from rqd.web.frame import PAGES
from tests.daemons import Daemon
from tests.lacking import needs_browser
from tests.processes import bound_to_pytest
from tests.servers import RedisServer, default_binary, running_server
from tests.waiting import eventually

LIMIT_S = 20.0
# The world is of a module: it outlives all its tests, each of which has a limit of its own.
WORLD_S = 900.0
STEP_MS = 8_000
CODE = """
import ctypes, resource, time
from rqd import get_current_job

def crash():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)

def refuse(order):
    raise ValueError(f"order {order} has no card")

def load():
    rows = []
    while True:
        rows.append(bytearray(8 << 20))
        time.sleep(0.005)

def hold(seconds):
    get_current_job().set_progress(0.4, "of 10 rows")
    time.sleep(seconds)
"""


@dataclass
class World:
    """A server, a daemon and a dashboard, with a job of each kind by its name."""

    server: RedisServer
    daemon: Daemon
    address: str
    jobs: dict[str, Job[Any]] = field(default_factory=dict)

    def queue(self, name: str) -> Queue:
        return Queue(name, Backend(Store(client_connection(self.server.url)), self.server.url))

    @property
    def paths(self) -> list[str]:
        """The addresses of all pages, with a queue and jobs of interest."""
        menu = [f"/{one.path}" for one in PAGES.values() if one.in_menu]
        jobs = [f"/job?id={self.jobs[name].id}" for name in ("raised", "crashed", "started")]
        more = ["/bulk?act=retry&state=failed", f"/stack?id={self.jobs['started'].id}"]
        return [*menu, "/queue?name=work", "/jobs?state=finished", *jobs, *more, "/nowhere"]


@contextmanager
def serving(url: str) -> Iterator[str]:
    """Serves a dashboard in a process of its own; yields its address without the last slash."""
    web = subprocess.Popen(
        [sys.executable, "-m", "rqd", "web", "--url", url, "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=bound_to_pytest(WORLD_S),
    )
    assert web.stdout is not None
    try:
        line = web.stdout.readline().decode()
        assert line.startswith("dashboard: http"), line
        yield line.split()[1].rstrip("/")
    finally:
        web.send_signal(signal.SIGKILL)
        web.wait()
        web.stdout.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Runs jobs that succeed, raise, crash, need too much memory, and go on."""
    needs_browser()
    folder = tmp_path_factory.mktemp("world")
    (folder / "shop_in_browser.py").write_text(CODE)
    with running_server(default_binary()) as server:
        options = ("--name", "one", "--path", str(folder))
        with (
            Daemon(
                folder / "daemon.log", *options, url=server.url, queues="work,held,free",
                workers=3, limit_s=WORLD_S,
            ) as daemon,
            serving(server.url) as address,
        ):  # fmt: skip
            made = World(server, daemon, address)
            _run_jobs(made)
            yield made


def _run_jobs(world: World) -> None:
    work, held = world.queue("work"), world.queue("held")
    world.jobs = {
        "finished": work.enqueue("time.sleep", 0),
        "raised": work.enqueue("shop_in_browser.refuse", 7),
        "crashed": work.enqueue("shop_in_browser.crash"),
        "memory": work.enqueue("shop_in_browser.load", max_memory="100M"),
    }
    for job in world.jobs.values():
        eventually(lambda job=job: job.is_finished or job.is_failed, LIMIT_S)  # type: ignore[misc]  # a lambda with a default has no type
    one = RateLimit("crm", concurrency=1)
    running = [
        held.enqueue("shop_in_browser.hold", 600, job_timeout=700, rate_limit=one) for _ in "ab"
    ]
    world.jobs["started"] = running[0]
    register("time.sleep", "work", (0,), cron="30 2 * * *", name="nightly",
             connection=work.connection)  # fmt: skip
    views = work.connection.views
    eventually(lambda: running[0].get_status() == "started", LIMIT_S)
    eventually(lambda: views.function_history("work", 0, views.now_us()), LIMIT_S)


@pytest.fixture(scope="module")
def chromium(world: World) -> Iterator[Browser]:
    """Starts the browser. It is of a module, as its loop would trouble tests of asyncio."""
    expect.set_options(timeout=STEP_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=needs_browser(), args=["--no-sandbox"], timeout=LIMIT_S * 1000
        )
        yield browser
        browser.close()


Show = Callable[..., Page]


class Complaints(list[str]):
    """What pages complain of: errors of scripts, messages of the console, breaches of the policy.

    A test that expects some clears them.
    """


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def show(world: World, chromium: Browser, complaints: Complaints) -> Iterator[Show]:
    """Opens a page at a path with these options of a context; none of them may complain."""
    contexts: list[BrowserContext] = []

    def open_page(path: str = "/", **options: Any) -> Page:
        context = chromium.new_context(base_url=world.address, **options)
        context.set_default_timeout(STEP_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda said: _note(complaints, said.type, said.text, page.url))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def _note(complaints: Complaints, kind: str, text: str, url: str) -> None:
    # An answer 404 is a message of its own, and is wanted where a test asks for it.
    if kind in ("error", "warning") and "404" not in text:
        complaints.append(f"{url}: {text}")
