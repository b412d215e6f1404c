"""The import law: who may import whom, who may fork, and what a fork may cost; the laws of size.

    django
    cli, web, bridge
    rqd/*.py                                    re-export the client at RQ's paths
    client | daemon                             neither imports the other
    store                                       alone imports redis
    model

Three doors stand between the two: rqd/client/worker.py may import rqd.daemon.foreground, which
starts a daemon by its command line, rqd/client/run_inline.py the code that runs jobs in the
caller's process, and rqd/testing/ the code that serves tests. Imports inside functions and under
TYPE_CHECKING count as any other: the law is about who knows whom.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "rqd"

MAY_IMPORT = {
    "model": {"model"},
    "store": {"store", "model"},
    "user": {"user", "store", "model"},
    "daemon": {"daemon", "store", "model"},
    "bridge": {"bridge", "user", "store", "model"},
    "cli": {"cli", "web", "bridge", "user", "daemon", "store", "model"},
    "web": {"web", "user", "store", "model"},
    "django": {"django", "web", "user", "store", "model"},
}

# What these modules, and no others of the user's, may import of the daemon.
DOORS = {
    "rqd.client.worker": {"rqd.daemon.foreground"},
    "rqd.client.run_inline": {"rqd.daemon.inline", "rqd.daemon.config"},
    "rqd.testing.crashes": {"rqd.daemon.trial"},
    "rqd.testing.queues": {"rqd.daemon.host.embedded"},
}

# What runs in the zygote and its children; the rest of daemon/ is the master's.
ZYGOTE_SIDE = "rqd.daemon.zygote"

# What the zygote may not load, as each fork pays for it: in pages, or in at-fork hooks.
TOO_DEAR = {
    *("asyncio", "click", "cronsim", "hashlib", "hmac", "http", "json", "logging"),
    *("multiprocessing", "psutil", "redis", "setproctitle", "signal", "socket", "ssl"),
    *("subprocess", "urllib.request", "zoneinfo"),
}  # fmt: skip

# What a job itself asks for, so that only this job's child pays: a coroutine needs its loop.
FOR_THE_JOB = {("rqd.daemon.zygote.coroutines", "asyncio")}

# By these modules and functions one comes to run what was read from Redis, or a user's module.
UNPICKLERS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "runpy"}
IMPORTERS = {"__import__", "exec", "eval", "import_module", "exec_module", "load_module"}

# The fields of a handle on a job whose look unpickles.
UNPICKLED = {"func", "args", "kwargs", "instance", "meta", "get_meta", "return_value", "result"}

# Making, awaiting and signalling processes, and the handlers for it.
PROCESS_CALLS = {
    *(f"os.{name}" for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp")),
    *(f"os.{name}" for name in ("wait", "wait3", "wait4", "waitid", "waitpid", "kill", "killpg")),
    *(f"signal.{name}" for name in ("signal", "set_wakeup_fd", "pthread_sigmask", "sigwaitinfo")),
    *(f"signal.{name}" for name in ("setitimer", "alarm", "pthread_kill", "pidfd_send_signal")),
}

MOST_METHODS, MOST_PARAMETERS = 20, 6
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# Base classes of one class alone, in modules of their own.
PARTS = {
    "client.job_facts.JobFacts": "client.job.Job",
    "client.job_options.JobOptions": "client.job.Job",
    "client.producer.Producer": "client.queue.Queue",
    "client.queue_facts.QueueFacts": "client.queue.Queue",
}

# Larger than the law allows. The list may only shrink: a name within the law has to leave.
LARGE_CLASSES = [
    *("client.job.Job", "client.queue.Queue"),  # RQ's
    *("store.keys.Keys", "store.queries.Queries", "store.store.Store"),  # one line a method, mostly
]

Law = Callable[[Path], list[str]]
"""A law lists what breaks it in a package: one line a breach."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module of rqd: its dotted name and its syntax tree."""

    path: Path
    name: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        return layer_of(self.name)

    def imports(self, *, at_run_time: bool = False) -> Iterator[tuple[str, str]]:
        """(where, module): each name imported, as `rqd.model.call` or `rqd.model.call.Call`."""
        skipped = for_types_only(self.tree) if at_run_time else set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import) and node not in skipped:
                for alias in node.names:
                    yield self.where(node), alias.name
            elif isinstance(node, ast.ImportFrom) and node not in skipped:
                for alias in node.names:
                    yield self.where(node), f"{self._origin(node)}.{alias.name}"

    def functions_used(self) -> Iterator[tuple[str, str]]:
        """(where, name): `exec`, or `importlib.import_module` when its module was imported."""
        modules = {"builtins": "builtins"}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name if alias.asname else alias.name.partition(".")[0]
                    modules[alias.asname or root] = root
        for node in ast.walk(self.tree):
            match node:
                case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules:
                    yield self.where(node), f"{modules[module]}.{name}"
                case ast.Name(id=name):
                    yield self.where(node), name

    def where(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.path}:{node.lineno}"

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        if self.path.name == "__init__.py":
            parts.append("__init__")
        above = parts[: -node.level]
        return ".".join([*above, node.module] if node.module else above)


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """What stands in the body of an `if TYPE_CHECKING:`."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }


def layer_of(module: str) -> str:
    """The layer of a module of rqd, whatever name imported from it follows."""
    match module.split("."):
        case ["rqd", layer, *_] if layer in MAY_IMPORT and layer != "user":
            return layer
        case ["rqd", "__main__"]:
            return "cli"
        case ["rqd", *_]:
            return "user"
    raise ValueError(f"{module} is not a module of rqd")


@cache
def sources(package: Path) -> list[Source]:
    """Every module below a package's folder, as it was when first asked for."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(path, name, ast.parse(path.read_text(), str(path))))
    return found


def is_or_is_in(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def broken_layers(package: Path) -> list[str]:
    return [
        f"{where}: {source.layer} imports {module}"
        for source in sources(package)
        for where, module in source.imports()
        # A name such as rqd.__version__ belongs to no layer.
        if is_or_is_in(module, {"rqd"}) and not module.startswith("rqd.__")
        if layer_of(module) not in MAY_IMPORT[source.layer]
        if not is_or_is_in(module, DOORS.get(source.name, set()))
    ]


def redis_outside_store(package: Path) -> list[str]:
    return [
        f"{where}: {source.layer} imports {module}"
        for source in sources(package)
        for where, module in source.imports()
        if source.layer != "store" and is_or_is_in(module, {"redis", "hiredis", "valkey"})
    ]


def process_calls_outside_daemon(package: Path) -> list[str]:
    return [
        f"{where}: {source.layer} uses {name}"
        for source in sources(package)
        if source.layer != "daemon"
        for where, name in (*source.imports(), *source.functions_used())
        # os and signal are fronts of these two.
        if name.replace("posix.", "os.").replace("_signal.", "signal.") in PROCESS_CALLS
    ]


def zygote_side(package: Path) -> list[Source]:
    return [source for source in sources(package) if is_or_is_in(source.name, {ZYGOTE_SIDE})]


def foreign_imports_of_zygote(package: Path) -> list[str]:
    allowed = {"rqd.model", "rqd.__version__", ZYGOTE_SIDE}
    return [
        f"{where}: {source.name} imports {module}"
        for source in zygote_side(package)
        for where, module in source.imports()
        if is_or_is_in(module, {"rqd"}) and not is_or_is_in(module, allowed)
    ]


def dear_imports_of_zygote(package: Path) -> list[str]:
    return [
        f"{where}: {source.name} imports {module}"
        for source in zygote_side(package)
        for where, module in source.imports(at_run_time=True)
        if is_or_is_in(module, TOO_DEAR) and (source.name, module) not in FOR_THE_JOB
    ]


def users_code_in_master(package: Path) -> list[str]:
    return [
        f"{where}: {source.name} uses {name}"
        for source in sources(package)
        if source.layer == "daemon" and not is_or_is_in(source.name, {ZYGOTE_SIDE})
        for where, name in (*source.imports(), *source.functions_used())
        if is_or_is_in(name, UNPICKLERS) or name.rpartition(".")[2] in IMPORTERS
    ]


def users_code_in_web(package: Path) -> list[str]:
    """Lists uses of an unpickler, of an import by name, and of a handle's fields that unpickle."""
    return [
        f"{where}: {source.name} uses {name}"
        for source in sources(package)
        if source.layer == "web"
        for where, name in (*source.imports(), *source.functions_used(), *unpickled(source))
        if is_or_is_in(name, UNPICKLERS) or name.rpartition(".")[2] in IMPORTERS or name[0] == "."
    ]


def unpickled(source: Source) -> Iterator[tuple[str, str]]:
    """(where, name): each look at an attribute that would unpickle if it were a job's."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in UNPICKLED:
            yield source.where(node), f".{node.attr}"


def tangles(package: Path) -> list[set[str]]:
    """Returns the groups of modules in which each one leads to every other by imports."""
    names = {source.name for source in sources(package)}
    leads: dict[str, set[str]] = {}
    for source in sources(package):
        leads[source.name] = set()
        for _, module in source.imports():
            home = module
            while home and home not in names:
                home = home.rpartition(".")[0]
            # A name of the package's own, such as rqd.__version__, is there from the start.
            if home not in ("", "rqd", source.name):
                leads[source.name].add(home)
    reached = {name: closure(name, leads) for name in names}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in names
        if name in reached[name]
    }
    return [set(group) for group in groups]


def closure(start: str, leads: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(leads.get(start, ()))
    while ahead:
        if (name := ahead.pop()) not in found:
            found.add(name)
            ahead += leads.get(name, ())
    return found


def large_classes(package: Path) -> list[str]:
    """Lists the classes with too many methods; the parts of a class count as the class."""
    methods: dict[str, set[str]] = {}
    for source in sources(package):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                name = own_name(source, node.name)
                found = methods.setdefault(PARTS.get(name, name), set())
                found |= {one.name for one in node.body if isinstance(one, FUNCTION)}
    return [name for name, found in methods.items() if len(found) > MOST_METHODS]


def long_parameter_lists(package: Path) -> list[str]:
    """Lists functions with too many parameters, `*args`, `**kwargs` and `self` not counted."""
    public = {
        name.removeprefix("rqd.")
        for source in sources(package)
        if source.path.parent == package or source.name == "rqd.web"
        for _, name in source.imports()
    }
    public |= {part for part, whole in PARTS.items() if whole in public}
    found = []
    for source in sources(package):
        for owner, node in functions_of(source.tree):
            name = own_name(source, *owner, node.name)
            is_public = own_name(source, *owner[:1] or (node.name,)) in public
            if node.name.startswith("_") and node.name != "__init__":
                is_public = False
            if not is_public and not is_command(node) and parameters(node) > MOST_PARAMETERS:
                found.append(name)
    return found


def own_name(source: Source, *path: str) -> str:
    return ".".join((source.name.removeprefix("rqd."), *path))


def functions_of(
    node: ast.AST, owner: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yields every function, with the names of the classes and functions it is defined in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTION):
            yield owner, child
        within = (*owner, child.name) if isinstance(child, (*FUNCTION, ast.ClassDef)) else owner
        yield from functions_of(child, within)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return sum(one.arg not in ("self", "cls") for one in every)


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(one).startswith("click.command(") for one in node.decorator_list)


LAWS: list[Law] = [
    broken_layers,
    redis_outside_store,
    process_calls_outside_daemon,
    foreign_imports_of_zygote,
    dear_imports_of_zygote,
    users_code_in_master,
    users_code_in_web,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_module_keeps_the_import_law(law: Law) -> None:
    broken = law(PACKAGE)

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("folder", ["rqd", "tests", "benchmarks", "examples"])
def test_every_ignore_has_its_reason_beside_it(folder: str) -> None:
    bare = re.compile(r"# (type: ignore\[[\w, -]+\]|noqa: [A-Z0-9, ]+)$")
    without = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        before = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if bare.search(line) and not before.lstrip().startswith("# "):
                without.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
            before = line

    assert not without, "\n".join(without)


def test_no_modules_import_one_another() -> None:
    assert tangles(PACKAGE) == []


def test_no_class_is_large_but_the_known_ones() -> None:
    assert sorted(large_classes(PACKAGE)) == sorted(LARGE_CLASSES)


def test_no_parameter_list_is_long() -> None:
    assert long_parameter_lists(PACKAGE) == []


def test_the_modules_at_rqs_paths_define_nothing() -> None:
    own = {"__init__.py", "__main__.py"}
    defined = [
        source.where(node)
        for source in sources(PACKAGE)
        if source.path.parent == PACKAGE and source.path.name not in own
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not defined, "\n".join(defined)


def test_the_law_sees_every_folder_there_is() -> None:
    layers = {source.layer for source in sources(PACKAGE)}

    assert {"model", "store", "daemon", "cli", "user"} <= layers
    assert {"boot", "child"} < {source.path.stem for source in zygote_side(PACKAGE)}


@pytest.mark.parametrize(
    ("law", "path", "code"),
    [
        (broken_layers, "model/call.py", "from rqd.store import keys"),
        (broken_layers, "model/call.py", "from ..store import keys"),
        (broken_layers, "model/__init__.py", "from ..store import keys"),
        (broken_layers, "store/store.py", "def f():\n    from rqd import Queue"),
        (broken_layers, "store/store.py", "import rqd.daemon.master"),
        (broken_layers, "queue.py", "from rqd import daemon"),
        (broken_layers, "client/worker.py", "from rqd.daemon.master import Supervisor"),
        (broken_layers, "queue.py", "from rqd import cli"),
        (broken_layers, "daemon/master.py", "from rqd.queue import Queue"),
        (broken_layers, "daemon/master.py", "from .. import Queue"),
        (redis_outside_store, "queue.py", "def f():\n    import redis"),
        (redis_outside_store, "daemon/master.py", "from redis.exceptions import RedisError"),
        (process_calls_outside_daemon, "worker.py", "import os\nos.fork()"),
        (process_calls_outside_daemon, "cli/stop.py", "import os as o\no.kill(1, 15)"),
        (process_calls_outside_daemon, "store/store.py", "from os import waitpid"),
        (process_calls_outside_daemon, "store/store.py", "from posix import fork"),
        (process_calls_outside_daemon, "cli/__init__.py", "import _signal\n_signal.signal(2, 0)"),
        (foreign_imports_of_zygote, "daemon/zygote/server.py", "from rqd.store import keys"),
        (foreign_imports_of_zygote, "daemon/zygote/child.py", "from rqd.daemon import loop"),
        (foreign_imports_of_zygote, "daemon/zygote/child.py", "from .. import loop"),
        (dear_imports_of_zygote, "daemon/zygote/child.py", "def f():\n    import logging.config"),
        (users_code_in_master, "daemon/master.py", "import pickle"),
        (users_code_in_master, "daemon/master.py", "from importlib import import_module"),
        (
            users_code_in_master,
            "daemon/event_loop.py",
            "import importlib\nimportlib.import_module('a')",
        ),
        (users_code_in_master, "daemon/event_loop.py", "exec('')"),
        (users_code_in_web, "web/pages.py", "import pickle"),
        (users_code_in_web, "web/pages.py", "from importlib import import_module"),
        (users_code_in_web, "web/pages.py", "def f(job):\n    return job.kwargs"),
        (broken_layers, "web/pages.py", "from rqd.cli.info import command"),
        (broken_layers, "web/pages.py", "import rqd.daemon.master"),
    ],
)
def test_a_breach_is_seen(law: Law, path: str, code: str, tmp_path: Path) -> None:
    assert len(law(package_with(tmp_path, path, code))) == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("model/call.py", "from rqd.model.retry import Retry\nfrom . import names"),
        ("store/store.py", "import redis\nfrom rqd.model import call"),
        ("queue.py", "from rqd.store.store import Store\nfrom .job import Job"),
        ("worker.py", "import signal, os\nsignal.Signals(9)\nos.waitstatus_to_exitcode(9)"),
        ("client/worker.py", "from rqd.daemon.foreground import run_in_foreground"),
        ("__main__.py", "from rqd.cli import main"),
        ("cli/start.py", "from rqd.daemon.master import Supervisor\nfrom rqd import Queue"),
        ("daemon/master.py", "from rqd import __version__\nimport importlib.metadata, os"),
        ("daemon/zygote/server.py", "import os, _signal, pickle\nfrom . import child\nos.fork()"),
        ("daemon/zygote/child.py", "from _signal import SIGTERM"),
        ("daemon/zygote/child.py", "if TYPE_CHECKING:\n    import socket"),
    ],
)
def test_what_is_lawful_passes(path: str, code: str, tmp_path: Path) -> None:
    package = package_with(tmp_path, path, code)

    assert [breach for law in LAWS for breach in law(package)] == []


@pytest.mark.parametrize("module", ["boot", "child"])
def test_what_every_fork_pays_for_loads_nothing_dear(module: str) -> None:
    assert loaded_by(f"rqd.daemon.zygote.{module}") & TOO_DEAR == set()


def test_import_rqd_alone_loads_neither_redis_nor_logging() -> None:
    loaded = loaded_by("rqd")

    assert loaded & TOO_DEAR == set()
    assert {module for module in loaded if module.startswith("rqd.")} == set()


# What modules of jobs import of rqd: each child pays for it, unless it is preloaded.
OF_JOBS = [
    *(
        "rqd.client.callbacks",
        "rqd.client.connection",
        "rqd.cron",
        "rqd.decorators",
        "rqd.exceptions",
    ),
    *("rqd.group", "rqd.job", "rqd.queue", "rqd.registry", "rqd.results", "rqd.client.running_job"),
    *("rqd.serializers", "rqd.timeouts", "rqd.webhook"),
]


@pytest.mark.parametrize("module", OF_JOBS)
def test_what_jobs_import_loads_redis_when_redis_is_asked_for(module: str) -> None:
    assert loaded_by(module) & {"redis", "asyncio", "logging", "ssl", "http"} == set()


def test_naming_a_redis_and_making_a_queue_loads_no_redis() -> None:
    told = "rqd; rqd.use_redis('redis://localhost:1'); queue = rqd.Queue('low'); repr(queue)"
    loaded = loaded_by(told)
    assert "rqd.client.queue" in loaded
    assert loaded & {"redis", "asyncio", "logging", "ssl"} == set()


@pytest.mark.parametrize("module", ["cli.healthcheck", "cli.completion"])
def test_what_is_asked_often_and_needs_no_redis_does_not_load_its_library(module: str) -> None:
    assert "redis" not in loaded_by(f"rqd.{module}")


def test_modules_that_import_one_another_are_seen(tmp_path: Path) -> None:
    package_with(tmp_path, "model/call.py", "def f():\n    from rqd.model import names")
    code = "if TYPE_CHECKING:\n    from rqd.model.call import Call"
    package = package_with(tmp_path, "model/names.py", code)

    assert tangles(package) == [{"rqd.model.call", "rqd.model.names"}]


SEVEN = "a, b, c, d, e, f, g"
AS_COMMAND = f"@click.command(name='stop')\ndef command({SEVEN}): ..."
METHODS = [f"    def f{number}(self): ...\n" for number in range(21)]


@pytest.mark.parametrize(
    ("law", "code", "seen"),
    [
        (large_classes, "class Large:\n" + "".join(METHODS), ["cli.stop.Large"]),
        (large_classes, "class Small:\n" + "".join(METHODS[1:]), []),
        (long_parameter_lists, f"def f({SEVEN}): ...", ["cli.stop.f"]),
        (long_parameter_lists, f"class C:\n    def f(self, {SEVEN}): ...", ["cli.stop.C.f"]),
        (long_parameter_lists, f"def f({SEVEN[3:]}, *args, **kwargs): ...", []),
        (long_parameter_lists, AS_COMMAND, []),
    ],
)
def test_a_large_class_or_parameter_list_is_seen(
    law: Law, code: str, seen: list[str], tmp_path: Path
) -> None:
    assert law(package_with(tmp_path, "cli/stop.py", code)) == seen


def package_with(folder: Path, path: str, code: str) -> Path:
    """A package rqd of one module, to try a law on."""
    module = folder / "rqd" / path
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(code)
    return folder / "rqd"


def loaded_by(module: str) -> set[str]:
    """Every module in a fresh interpreter after the import of one."""
    # Without site, whose .pth files may load anything; with the path as it was found here.
    program = (
        f"import sys; sys.path[:] = {[str(ROOT), *sys.path]!r}; import {module}; "
        "print(*sys.modules, sep='\\n')"
    )
    fresh = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=20
    )
    assert fresh.returncode == 0, fresh.stderr
    return set(fresh.stdout.split())
