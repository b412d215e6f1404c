"""Redis stopped, killed, emptied of scripts, stalled, loading, read-only, full; answers lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import redis

from tests.torture.arena import Arena
from tests.torture.faults import Fault, Injected, Lane, Missed, NotYet, Target
from tests.torture.server import await_loaded

_LOADING_S = 1.5
_BYTES_A_COMMAND = 150


def _tell(target: Target, *command: str) -> None:
    try:
        target.arena.server.client(2.0).execute_command(*command)
    except redis.RedisError as error:
        raise Missed(f"redis: {error}") from error


def restart(target: Target) -> Injected:
    server = target.arena.server
    server.stop()
    return Injected("redis", server.start)


def kill(target: Target) -> Injected:
    server = target.arena.server
    server.kill()
    return Injected("redis", server.start)


def script_flush(target: Target) -> Injected:
    _tell(target, "SCRIPT", "FLUSH")
    return Injected("redis")


def client_kill(target: Target) -> Injected:
    _tell(target, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return Injected("redis")


def stall(target: Target) -> Injected:
    server = target.arena.server
    server.signal(signal.SIGSTOP)
    return Injected("redis", lambda: server.signal(signal.SIGCONT), server.pid)


def loading(target: Target) -> Injected:
    """Restarts it so that it takes a while to load its file, and says LOADING meanwhile."""
    server = target.arena.server
    server.stop()
    size = sum(path.stat().st_size for path in server.data.rglob("*") if path.is_file())
    # A negative delay is one short sleep (some 60 us) in so many commands.
    naps = _LOADING_S / 60e-6
    one_in = max(1, int(size / _BYTES_A_COMMAND / naps))
    slow = ("--key-load-delay", str(-one_in), "--loading-process-events-interval-bytes", "1024")
    server.start(*slow, wait=False)
    was_loading = await_loaded(server.client(0.5), 30.0)
    server.wait_ready()
    _tell(target, "CONFIG", "SET", "key-load-delay", "0")
    return Injected("redis", note="seen" if was_loading else "not seen")


def read_only(target: Target) -> Injected:
    """Makes it a replica of a server that is not there."""
    _tell(target, "REPLICAOF", "127.0.0.1", "1")
    return Injected("redis", lambda: _insist(target, "REPLICAOF", "NO", "ONE"))


def full(target: Target) -> Injected:
    _tell(target, "CONFIG", "SET", "maxmemory", "1mb")
    return Injected("redis", lambda: _insist(target, "CONFIG", "SET", "maxmemory", "0"))


def _insist(target: Target, *command: str) -> None:
    for _ in range(20):
        try:
            _tell(target, *command)
            return
        except Missed:
            time.sleep(0.1)
    _tell(target, *command)


def lose_answer(script: str) -> Callable[[Target], Injected]:
    """Cuts a client off whose command of this script was carried out, before it has the answer."""

    def inject(target: Target) -> Injected:
        arena = target.arena
        text = arena.system.scripts.get(script)
        if text is None:
            raise Missed("no such script")
        before = arena.proxy.cut({script: text}).get(script, 0)

        def heal() -> None:
            if arena.proxy.cut({}).get(script, 0) == before:
                raise Missed("no request came")

        return Injected("redis", heal)

    return inject


def lose_name_answers(target: Target) -> Injected:
    """A master is told to stop; the answers to its bye and its successor's hello are lost."""
    arena, keeper = target.arena, target.keeper
    arena.proxy.cut({name: arena.system.scripts[name] for name in ("bye", "hello")})
    pid = keeper.pid
    if pid is None:
        raise Missed("no master")
    keeper.signal(signal.SIGTERM)
    return Injected("master", lambda: cut_no_more(arena), pid)


def cut_no_more(arena: Arena) -> None:
    """The proxy lets every answer through again."""
    arena.proxy.cut({})


def _lost(script: str, hold_s: float, systems: tuple[str, ...] = ("rqd",)) -> Fault:
    name = f"answer lost after commit: {script}"
    return Fault(name, "redis", Lane.REDIS, lose_answer(script), (hold_s, hold_s), 4, systems)


_R = ("redis", Lane.REDIS)
FAULTS = (
    Fault("restart with its append-only file", *_R, restart, (0.0, 1.0)),
    Fault("SIGKILL of the server", *_R, kill, (0.0, 1.0)),
    Fault("SCRIPT FLUSH", *_R, script_flush, often=4),
    Fault("CLIENT KILL of all", *_R, client_kill, often=4),
    Fault("stalled past the socket timeout", *_R, stall, (0.7, 3.0)),
    Fault("stalled past the lease", *_R, stall, (16.0, 17.0), 1),
    Fault("LOADING", *_R, loading, often=2),
    Fault("read-only", *_R, read_only, (0.5, 3.0)),
    Fault("maxmemory with noeviction", *_R, full, (0.5, 3.0)),
    _lost("turn", 0.5),
    _lost("enqueue", 0.5),
    _lost("beat", 5.5),
    _lost("EXEC", 0.5, ("rq",)),
    Fault(
        *("answers lost after commit: bye, hello", *_R, lose_name_answers),
        (4.0, 4.0),
        1,
        ("rqd",),
    ),
)
NOT_INJECTED = (
    NotYet("Sentinel failover", "redis", "tests/topology does that"),
    NotYet("Cluster slot MOVED", "redis", "tests/topology does that"),
)
