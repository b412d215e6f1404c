"""What the README and the docs show is run as it stands there, and what they list is compared.

A comment before a fenced block says what it is:

    <!-- test: file NAME -->           the block is that file
    <!-- test: start -->               a daemon, in a terminal of its own; it gets ready
    <!-- test: run -->                 shell or Python, in one terminal; it exits with 0
    <!-- test: run, exits N -->        ... with N
    <!-- test: run on a server -->     ... with a Redis that is there: RQD_URL
    <!-- test: prints -->              the last block's output; ... is anything, an id any id
    <!-- test: prints errors -->       what it wrote to stderr
    <!-- test: part of PATH -->        it stands so in this file, which other tests run
    <!-- test: skip, REASON -->        not run

Every block in sh or Python has one.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rqd.daemon.signals import HANDLED
from rqd.model.records import JobStatus
from rqd.store import keys
from rqd.store.keys import Keys
from tests.daemons import ROOT
from tests.processes import bound_to_pytest
from tests.waiting import eventually

PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "systemd").glob("*.md"),
    ]
)
BLOCK_LIMIT_S = 30.0
DAEMON_LIMIT_S = 50.0
RUN_LANGUAGES = {"sh", "bash", "shell", "console", "python", "py"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MARKER = re.compile(r"<!-- test: (.+) -->\n\Z")
ID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and what its comment says about it."""

    where: str
    language: str
    text: str
    marker: str


@dataclass
class Reader:
    """Someone who types what a page shows, in an empty folder."""

    folder: Path
    server_url: str
    stack: ExitStack
    needs_sdk: bool = False
    last: "subprocess.CompletedProcess[str] | None" = None

    def follow(self, block: Block) -> None:
        what, _, rest = block.marker.partition(", ")
        if what.startswith("file "):
            (self.folder / what.removeprefix("file ")).write_text(block.text)
        elif what == "start":
            self._start(block)
        elif what in ("run", "run on a server"):
            url = self.server_url if what.endswith("server") else None
            self._run(block, int(rest.removeprefix("exits ") or 0), url)
        elif what.startswith("part of "):
            file = what.removeprefix("part of ")
            assert block.text in (ROOT / file).read_text(), f"{block.where}: not so in {file}"
        elif what in ("prints", "prints errors"):
            assert self.last is not None, block.where
            printed = self.last.stderr if what.endswith("errors") else self.last.stdout
            assert matches(printed, block.text), f"{block.where}:\n{printed}"
        else:
            assert what == "skip", f"{block.where}: what is {what}?"
            assert rest, f"{block.where}: skipped for what reason?"

    def _run(self, block: Block, status: int, url: str | None) -> None:
        command = block.text
        if block.language in ("python", "py"):
            command = f"python - <<'END OF PYTHON'\n{command}END OF PYTHON\n"
        if url is not None:
            command = f"export RQD_URL={shlex.quote(url)}\n{command}"
        # What one block exports the next one has, as in a terminal.
        state = shlex.quote(str(self.folder / ".exported"))
        keep = f"if [ -e {state} ]; then . {state}; fi; trap 'export -p >{state}' EXIT\n"
        self.last = subprocess.run(
            ["bash", "-eu", "-c", keep + command],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_LIMIT_S,
        )
        told = f"{block.where}: status {self.last.returncode}\n{self.last.stderr}\n{self.log()}"
        assert self.last.returncode == status, told

    def _start(self, block: Block) -> None:
        with (self.folder / "daemon.log").open("ab") as log:
            terminal = subprocess.Popen(
                [
                    "bash",
                    "-eu",
                    "-c",
                    re.sub(r"^rqd start", "exec rqd start", block.text, flags=re.M),
                ],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=bound_to_pytest(DAEMON_LIMIT_S),
            )
        self.stack.enter_context(ended_with(terminal))
        eventually(
            lambda: terminal.poll() is not None or re.search(r"\bready\b", self.log()),
            BLOCK_LIMIT_S,
            self.log,
        )
        assert terminal.poll() is None, f"{block.where}:\n{self.log()}"

    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _environment(self) -> dict[str, str]:
        # PYTHONPATH hides the OpenTelemetry SDK (tests/conftest.py), which few readers have.
        own = ("RQD_", "REDIS_", *(("PYTHONPATH",) if self.needs_sdk else ()))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        programs = f"{Path(sys.executable).parent}:{kept['PATH']}"
        # A reader has a terminal; here the daemon would take its file for a machine's.
        text = {"RQD_LOG_FORMAT": "text", "XDG_STATE_HOME": ""}
        return {**kept, "PATH": programs, "HOME": str(self.folder), **text}


@pytest.fixture
def reader(redis_url: str) -> Iterator[Reader]:
    # /tmp and not tmp_path: a unix socket's path is limited to 108 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="rqd-docs-", dir="/tmp") as folder,
        ExitStack() as stack,
    ):
        yield Reader(Path(folder), redis_url, stack)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_works_as_typed(page: Path, reader: Reader) -> None:
    blocks = [block for block in blocks_of(page) if block.marker]
    reader.needs_sdk = any("opentelemetry.sdk" in block.text for block in blocks)
    for block in blocks:
        reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_on_a_page_goes_unmarked(page: Path) -> None:
    unmarked = [
        block.where
        for block in blocks_of(page)
        if block.language in RUN_LANGUAGES and not block.marker
    ]

    assert unmarked == []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    broken = [
        f"{to}#{anchor}" if anchor else to
        for to, anchor in LINK.findall(page.read_text())
        if not (page.parent / to).exists()
        or (anchor and anchor not in anchors_of(page.parent / to if to else page))
    ]

    assert broken == []


def test_the_key_table_has_every_key_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    documented = re.findall(r"^\| `([a-z]+[^`]*)` \| ([A-Z]+) \|", page, re.M)

    assert dict(documented) == keys_in_code()


def test_the_scripts_make_no_key_that_is_not_in_the_table() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "rqd/store/lua").rglob("*.lua"))
    code = re.sub(r"--.*", "", scripts)
    made = set(re.findall(r"\bP \.\. '([^']+)'", code))
    beginnings = {re.split("<", key)[0] for key in keys_in_code()}

    # One script wakes whom it is told to.
    assert made - {"wake:"} - beginnings == set()


def test_the_state_diagram_has_every_status() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    diagram = next(block for block in FENCE.findall(page) if block[0] == "mermaid")[1]

    assert {status for status in JobStatus if re.search(rf"\b{status}\b", diagram)} == set(
        JobStatus
    )


def test_the_signal_table_has_every_signal_the_daemon_handles() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.partition("## Signals")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([A-Z0-9, ]+) \|", section, re.M)
    documented = {f"SIG{name}" for cell in cells for name in cell.split(", ")}

    assert documented == {signal.Signals(number).name for number in HANDLED} - {"SIGCHLD"}


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text()

    for page in folder.glob("[0-9]*.md"):
        title = page.read_text().splitlines()[0].removeprefix("# ")
        assert f"[{title}]({page.name})" in listed


def anchors_of(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    text = FENCE.sub("", page.read_text())
    shown = [
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head)
        for head in re.findall(r"^#+ (.+)$", text, re.M)
    ]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in shown}


def keys_in_code() -> dict[str, str]:
    """Each key's shape and type, from the docstrings and the last comment of rqd/store/keys.py."""
    built = Keys("ns")
    shapes = {
        "group": "<group>",
        "index": "<index>",
        "queue": "<queue>",
        "job_id": "<id>",
        "request": "<request>",
        "master": "<master>",
        "number": "<n>",
        "minute": "<minute>",
        "hour": "<hour>",
        "key": "<key>",
    }
    found: dict[str, str] = {}
    for name, member in vars(Keys).items():
        if name.startswith("_") or name in ("namespace", "prefix") or not member.__doc__:
            continue
        if isinstance(member, property):
            key = member.__get__(built)
        else:
            wanted = member.__annotations__.keys() - {"return"}
            # The one argument `name` is an index's, a master's or a staged value's, by its method.
            own = {
                "name": {"index": "<index>", "staged": "<name>", "cron": "<name>"}.get(
                    name, "<master>"
                )
            }
            key = member(built, **{argument: (shapes | own)[argument] for argument in wanted})
        found[key.removeprefix(built.prefix)] = member.__doc__.split()[0].strip(".:")
    source = Path(keys.__file__).read_text()
    return found | dict(re.findall(r"^#   (\S+) +([A-Z]+)\b", source, re.M))


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        marker = MARKER.search(before)
        where = f"{page.relative_to(ROOT)}:{before.count(chr(10)) + 1}"
        found.append(Block(where, match[1], match[2], marker[1] if marker else ""))
    return found


def matches(printed: str, shown: str) -> bool:
    """True if the output is what is shown, with `...` for anything at all and any id for an id."""
    parts = re.split(r"\.{3,}\n?", ID.sub("an id", shown.strip()))
    pattern = ".*".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, ID.sub("an id", printed.strip()), re.S) is not None


@contextmanager
def ended_with(terminal: "subprocess.Popen[bytes]") -> Iterator[None]:
    """The process is gone when the block ends, with all it started: a daemon takes that with it."""
    try:
        yield
    finally:
        if terminal.poll() is None:
            terminal.terminate()
            try:
                terminal.wait(BLOCK_LIMIT_S)
            except subprocess.TimeoutExpired:
                terminal.kill()
                terminal.wait()
