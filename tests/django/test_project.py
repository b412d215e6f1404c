"""The project in examples/django: its commands, its daemon, its servers, and its dashboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from rqd import Queue
from rqd.client.connection import Backend, backend_for
from tests.processes import bound_to_pytest
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 60.0
SECRET = "not really, but longer than fifty characters, as Django asks for"
# Each prints its port: no other process can take it in between.
SERVERS = {
    "wsgi": (
        "from waitress import create_server; from mysite.wsgi import application;"
        " server = create_server(application, host='127.0.0.1', port=0, threads=3);"
        " print(server.effective_port, flush=True); server.run()"
    ),
    "asgi": (
        "import socket, uvicorn; from mysite.asgi import application;"
        " bound = socket.create_server(('127.0.0.1', 0));"
        " print(bound.getsockname()[1], flush=True);"
        " uvicorn.Server(uvicorn.Config(application)).run([bound])"
    ),
}
NO_ISSUES = "System check identified no issues (0 silenced).\n"
CALL = "from django.core.management import call_command; call_command('rqd', 'info')"
USERS = """
from django.contrib.auth.models import Permission, User
for name in ("clerk", "viewer", "operator"):
    user = User.objects.create_user(name, password=name, is_staff=True)
    if name != "clerk":
        codename = "view_dashboard" if name == "viewer" else "change_dashboard"
        user.user_permissions.add(Permission.objects.get(codename=codename))
"""


class Project:
    """A copy of the project with a database of its own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder / "project"
        shutil.copytree(ROOT / "examples" / "django", self.folder)
        self.env = {**os.environ, "DATABASE_FILE": str(folder / "db"), "SECRET_KEY": SECRET, **env}
        self.env["PYTHONPATH"] = f"{ROOT}{os.pathsep}{self.env.get('PYTHONPATH', '')}"
        self._processes = ExitStack()

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `manage.py` with these words."""
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a python with these words in the project; `close` ends it."""
        with (self.folder.parent / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=bound_to_pytest(LIMIT_S),
            )
        self._processes.callback(_end, process)
        return process

    def start_daemon(self, there: Backend) -> subprocess.Popen[str]:
        """Starts `manage.py rqd start`; returns once it is ready."""
        daemon = self.start("manage.py", "rqd", "start", "--workers", "2")
        eventually(lambda: [row for row in there.views.masters() if row["state"] == "idle"], 20)
        return daemon

    def serve(self, kind: str) -> httpx2.Client:
        """Starts a server, and returns a client of it."""
        server = self.start("-c", SERVERS[kind])
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        return self._processes.enter_context(client)

    def log_in(self, client: httpx2.Client, name: str) -> None:
        """Logs a user in, whose password is the name."""
        form = client.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token
        data = {"username": name, "password": name, "csrfmiddlewaretoken": token[1]}
        answer = client.post("/admin/login/?next=/admin/", data=data)
        assert (answer.status_code, answer.headers.get("location")) == (302, "/admin/"), answer

    def close(self) -> None:
        """Ends its processes."""
        self._processes.close()


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


OpenProject = Callable[..., Project]


@pytest.fixture
def there(redis_url: str) -> Backend:
    """The project's Redis."""
    return backend_for(redis_url)


@pytest.fixture
def open_project(redis_url: str, tmp_path: Path) -> Iterator[OpenProject]:
    """Makes a copy of the project, with the tables of its database."""
    with ExitStack() as opened:

        def start(**env: str) -> Project:
            project = Project(tmp_path, {"RQD_URL": redis_url, **env})
            opened.callback(project.close)
            migrated = project.manage("migrate", "--verbosity", "0")
            assert migrated.returncode == 0, migrated
            return project

        yield start


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    """A copy of the project on SQLite."""
    return open_project()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_order_is_taken_by_the_server_and_shipped_by_the_daemon(
    kind: str, open_project: OpenProject, there: Backend, request: pytest.FixtureRequest
) -> None:
    env = {}
    if kind == "postgres":
        env = {"DATABASE_HOST": request.getfixturevalue("postgres"), "DATABASE_NAME": "postgres"}
    project = open_project(**env)
    daemon = project.start_daemon(there)
    client = project.serve("wsgi")

    bought = client.post("/orders", data={"article": "tea", "address": "you@example.org"})

    assert bought.status_code == 201
    where = f"/orders/{bought.json()['order']}"
    eventually(lambda: client.get(where).json()["task"] == "SUCCESSFUL", 15)
    assert client.get(where).json() == {"is_shipped": True, "task": "SUCCESSFUL"}
    (mail,) = eventually(lambda: there.views.index_ids("mails", "finished"), 15)
    record = there.views.job(mail)
    assert record is not None
    assert (record.func_name, record.priority) == ("shop.tasks.confirm", 10)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0


def test_the_dashboard_is_in_the_admin_under_its_permissions(
    project: Project, there: Backend
) -> None:
    _make_users(project)
    queue = Queue(connection=there)
    queue.enqueue("shop.tasks.ship", 1)
    client = project.serve("wsgi")
    page = "/admin/rqd/dashboard/"

    stranger = client.get(page)
    assert stranger.status_code == 302
    assert stranger.headers["location"] == f"/admin/login/?next={page}"
    project.log_in(client, "clerk")
    assert client.get(page).status_code == 403
    assert page not in client.get("/admin/").text
    client.cookies.clear()

    project.log_in(client, "viewer")
    assert page in client.get("/admin/").text
    shown = client.get(f"{page}queue?name=default")
    assert shown.headers["content-security-policy"]
    assert '<a href="/admin/">Admin</a>' in shown.text
    styles = re.findall(r'href="([^"]+[.]css[^"]*)"', shown.text)
    assert [client.get(style).status_code for style in set(styles)] == [200] * len(set(styles))
    assert client.get(f"{page}nothing").status_code == 404
    assert 'name="token"' not in shown.text
    data = {"token": "0" * 40, "queue": "default"}
    assert client.post(f"{page}do/pause", data=data).status_code == 403
    client.cookies.clear()

    project.log_in(client, "operator")
    form = client.get(f"{page}queue?name=default").text
    (token,) = set(re.findall(r'name="token" value="(\w+)"', form))
    paused = client.post(f"{page}do/pause", data={"token": token, "queue": "default"})
    assert paused.status_code == 303
    assert queue.is_paused
    assert "operator" in client.get(f"{page}audit").text


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_live_page_streams_and_lets_go_of_browsers_that_leave(
    kind: str, project: Project, there: Backend
) -> None:
    _make_users(project)
    client = project.serve(kind)
    project.log_in(client, "viewer")
    page = "/admin/rqd/dashboard/queues"

    for number in range(4):  # more than the server has threads
        with client.stream("GET", f"{page}.live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == "event: page"
            Queue(f"new{number}", connection=there).enqueue("shop.tasks.ship", number)
            assert next(
                line for line in lines if line.startswith("data: ") and f"new{number}" in line
            )
        Queue(f"unseen{number}", connection=there).enqueue("shop.tasks.ship", number)

    assert client.get(page).status_code == 200


def test_check_finds_a_missing_key_and_unserved_queues(project: Project, there: Backend) -> None:
    plain, deployed = project.manage("check"), project.manage("check", "--deploy")

    assert (plain.returncode, plain.stdout) == (0, NO_ISSUES)
    found = re.findall(r"\(rqd\.W\d+\) TASKS\['default'\]: (.+)", deployed.stderr)
    assert found == [
        "tasks are not signed, so whoever writes to Redis can run any function of the project",
        "no daemon serves the queue default",
        "no daemon serves the queue mails",
    ]

    project.env["RQD_SIGNING_KEY"] = "0123456789abcdef" * 4
    project.start_daemon(there)
    assert "rqd." not in project.manage("check", "--deploy").stderr

    project.env["RQD_URL"] = "unix:///nowhere/redis.sock"
    (found,) = re.findall(r"\(rqd\.W002\) (.+)", project.manage("check", "--deploy").stderr)
    assert "/nowhere/redis.sock" in found


def test_the_project_has_all_its_migrations(project: Project) -> None:
    made = project.manage("makemigrations", "--check", "--dry-run")

    assert (made.returncode, made.stdout) == (0, "No changes detected\n")


def test_its_own_tests_pass(project: Project) -> None:
    ran = project.manage("test")

    assert ran.returncode == 0, ran
    assert "Ran 1 test" in ran.stderr


def test_rqds_commands_know_the_settings(project: Project, there: Backend) -> None:
    enqueued = project.manage("rqd", "enqueue", "shop.tasks.ship", "1", "--queue", "mails")
    assert enqueued.returncode == 0, enqueued
    listed = project.manage("rqd", "jobs", "queued", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)] == [enqueued.stdout.strip()]
    assert project.manage("rqd", "--help").stdout.startswith("Usage: ")
    by_code = project.manage("shell", "-c", CALL)
    assert "\nQueues\n" in by_code.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--backend"], "rqd: --backend: write an alias of TASKS behind it"),
        (
            ["--backend", "x", "info"],
            "rqd: no RqdBackend 'x' in TASKS: --backend names one of default",
        ),
    ],
)
def test_mistakes_at_the_command_are_one_line(
    project: Project, words: list[str], text: str
) -> None:
    ran = project.manage("rqd", *words)

    assert (ran.returncode, ran.stderr) == (64, f"{text}\n")


def _make_users(project: Project) -> None:
    made = project.manage("shell", "-c", USERS)
    assert made.returncode == 0, made
