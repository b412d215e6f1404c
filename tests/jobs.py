"""What the daemons under test run. `fifo` arguments are named pipes by which a test holds a job.

Most daemons under test have it imported by each child: what takes long to import is imported late.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import rqd
from rqd.model.errors import JobStoppedException, JobTimeoutException, RetryLater

TYPE_CHECKING = False  # as in rqd/__init__.py

if TYPE_CHECKING:
    from typing import Any

calls = 0
left: list[Any] = []


def multiply(x: int, y: int) -> int:
    return x * y


def instant() -> float:
    return time.time()


def echo(value: Any) -> Any:
    return value


async def slowly_multiply(x: int, y: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return x * y


_begun: dict[str, Any] = {}


async def loop_and_ticks() -> tuple[int, int, int]:
    """Returns the process, its event loop, and how often a task of the first job has run since."""
    import asyncio

    async def tick() -> None:
        while True:
            _begun["ticks"] += 1
            await asyncio.sleep(0)

    if "task" not in _begun:
        _begun.update(ticks=0, task=asyncio.create_task(tick()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return os.getpid(), id(asyncio.get_running_loop()), _begun["ticks"]


async def leave_a_task(path: str) -> int:
    """Leaves a task that notes its cancellation there; returns the process."""
    import asyncio

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            append(path, "canceled")
            raise

    _begun["left"] = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return os.getpid()


def multiply_in_thread(x: int, y: int) -> int:
    """Runs a coroutine job inline, in a thread of this job."""
    found: list[Any] = []

    def work() -> None:
        there = rqd.Queue("inline", is_async=False)
        found.append(there.enqueue(slowly_multiply, x, y).return_value())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    product: int = found[0]
    return product


async def await_for_ever() -> None:
    import asyncio

    async def deeper() -> None:
        await asyncio.Event().wait()

    await deeper()


def append(path: str, word: str) -> None:
    with open(path, "a") as history:
        history.write(word + "\n")


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def hold(fifo: str, word: str = "done") -> str:
    """Runs until the test opens the other end of the pipe."""
    read(fifo)
    return word


def note_and_hold(path: str, fifo: str) -> str:
    append(path, "started")
    return hold(fifo)


def fail(message: str = "no such luck") -> None:
    raise ValueError(message)


def fail_until(path: str, attempts: int) -> str:
    append(path, "attempt")
    seen = len(read(path).split())
    if seen < attempts:
        raise ValueError(f"attempt {seen}")
    return f"after {seen}"


def leave(status: int) -> None:
    os._exit(status)


def sys_exit(status: int) -> None:
    sys.exit(status)


def signal_self(signum: int) -> None:
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), signum)
    signal.pause()


def kill_the_zygote() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def run_for_ever() -> None:
    while True:
        time.sleep(0.01)  # the job's own work


def swallow_timeouts() -> None:
    while True:
        try:
            time.sleep(0.01)  # the job's own work
        except JobTimeoutException:
            continue


def shrug_off_one_timeout() -> None:
    try:
        run_for_ever()
    except Exception:  # noqa: BLE001 - what careless jobs do
        run_for_ever()


def note_a_stop(path: str, rounds: int = 1) -> str:
    """Runs until it was told to stop `rounds` times; says in `path` what it hears."""
    heard, has_begun = 0, False
    while True:
        try:
            if not has_begun:
                has_begun = True
                append(path, "started")  # from then on it may be told
            signal.pause()
        except JobStoppedException:
            append(path, f"stopped-at-{time.monotonic()}")
            heard += 1
            if heard == rounds:
                raise


def hog_memory(size_bytes: int) -> int:
    held = bytearray(size_bytes)
    held[::4096] = b"x" * len(held[::4096])
    os.kill(os.getpid(), signal.SIGKILL)
    return len(held)


def burn_cpu_and_die(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def say(out: str, err: str) -> None:
    print(out)
    print(err, file=sys.stderr)


def flood(size_bytes: int) -> int:
    sys.stdout.write("x" * size_bytes)
    return size_bytes


def print_here() -> str:
    print("here")
    return "printed"


def leave_a_talker() -> None:
    """Leaves a process running that prints on and on."""
    import subprocess

    subprocess.Popen(["sh", "-c", "while echo noise; do sleep 0.001; done"])


def close_output() -> str:
    os.close(1)
    os.close(2)
    return "silent"


def process_ids() -> dict[str, int]:
    return {"pid": os.getpid(), "ppid": os.getppid(), "group": os.getpgid(0)}


def count_calls() -> int:
    global calls  # noqa: PLW0603 - shows whether two jobs shared a process
    calls += 1
    return calls


def who_am_i() -> tuple[str, str]:
    job = rqd.get_current_job()
    assert job is not None
    return job.id, job.origin


def enqueue_another(value: int) -> str:
    return rqd.Queue("other").enqueue(echo, value).id


def status_of_a_subprocess() -> int:
    import subprocess

    return subprocess.run([sys.executable, "-c", "raise SystemExit(7)"], check=False).returncode


def spawn_and_hold(path: str, fifo: str) -> str:
    """Leaves one grandchild in its group, and one that has escaped into a session of its own."""
    import subprocess

    inside = subprocess.Popen(["sleep", "1000"])
    escaped = subprocess.run(
        ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    append(path, f"{inside.pid} {int(escaped)}")
    return hold(fifo)


def title() -> str:
    return read("/proc/self/cmdline").rstrip("\0")


def survive(signum: int) -> str:
    os.kill(os.getpid(), signum)
    return "alive"


class Callable:
    def __call__(self) -> None:
        pass


def unpicklable() -> Any:
    return lambda: None


class BadReduce:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("not a number",))


def leave_the_group_and_hold(fifo: str) -> str:
    """Joins the zygote's process group."""
    os.setpgid(0, os.getpgid(os.getppid()))
    return hold(fifo)


def fork_and_return(value: int) -> int:
    """Returns in two processes, as a careless job would."""
    os.fork()
    return value


def terminate_a_process() -> int | None:
    """As `multiprocessing.Pool` ends its own, too."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join(10)
    return process.exitcode


def leave_one_that_tidies_up(path: str) -> None:
    """Leaves a process as the resource trackers of `multiprocessing` and joblib are: it heeds no
    SIGTERM, and tidies up at the end of a pipe, which another process holds, too.
    """
    import subprocess

    script = f"trap '' TERM; echo; cat; sleep 0.05; echo tidied >>{path}"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it heeds no SIGTERM by now
    subprocess.Popen(["sleep", "1000"], pass_fds=[process.stdin.fileno()])
    left.append(process)  # else the pipe would be closed by now


def leave_a_shell(script: str) -> None:
    import subprocess

    subprocess.Popen(["sh", "-c", script])


def environment(name: str) -> str | None:
    return os.environ.get(name)


def daemonize_and_hold(path: str, fifo: str) -> str:
    """Forks a process that leaves for a session of its own, and waits for ever."""
    if os.fork() == 0:
        os.setsid()
        append(path, str(os.getpid()))  # by now it is out of its group's reach
        signal.pause()
    return hold(fifo)


def vanish_and_hold(path: str, fifo: str) -> str:
    """Forks a process that leaves for a session of its own, without a file or a name."""
    if os.fork() == 0:
        os.setsid()
        append(path, str(os.getpid()))
        os.closerange(0, 1024)
        signal.pause()
    return hold(fifo)


def rights() -> dict[str, Any]:
    try:
        os.setuid(0)
        is_root = True
    except PermissionError:
        is_root = False
    home, user = os.environ.get("HOME"), os.environ.get("USER")
    return {"uid": os.getuid(), "home": home, "user": user, "root": is_root}


def hog_and_wait(size_bytes: int) -> int:
    held = bytearray(size_bytes)
    held[::4096] = b"x" * len(held[::4096])
    signal.pause()
    return len(held)


def ask_until(path: str, attempts: int, how: str) -> Any:
    """Asks to be run again until it has been so often."""
    append(path, "attempt")
    seen = len(read(path).split())
    if seen == attempts:
        return f"after {seen}"
    if how == "return":
        return rqd.Retry(max=9, interval=0.01)
    raise RetryLater(0.01, "not there yet")


def ask_for_ever(most: int) -> None:
    raise RetryLater(0, "never there", max=most)


def flood_progress(count: int) -> float:
    """How many seconds it took."""
    started = time.monotonic()
    for number in range(count):
        rqd.progress(number / count, f"row {number}")
    took_s = time.monotonic() - started
    rqd.progress(1, "all rows")
    return took_s


def progress_and_hold(fifo: str) -> str:
    rqd.progress(0.4, "reading")
    if words := read(fifo):
        rqd.progress(0.9, words)
    return words or "done"


def progress_and_die() -> None:
    for number in range(5):
        rqd.progress(number / 5, f"row {number}")
        time.sleep(0.06)  # the job's own work
    os.kill(os.getpid(), signal.SIGKILL)


def note() -> tuple[int, str, float]:
    """Notes on itself; how many connections that took, and what else it knows of itself."""
    job = rqd.get_current_job()
    assert job is not None
    job.meta["seen"] = len(job.meta["who"])
    job.save_meta()
    client: Any = job.connection.store.redis
    pool, held = client.connection_pool, client.held._idle
    opened = len(pool._available_connections) + len(pool._in_use_connections) + len(held)
    return opened, job.func_name, job.timeout


def save_meta_and_hold(fifo: str) -> str:
    job = rqd.get_current_job()
    assert job is not None
    for number in range(100):
        job.meta["number"] = number
        job.save_meta()
    assert job.get_meta() == {**job.meta, "number": 99}
    return hold(fifo)


def extend_and_sleep(seconds: float, more: float) -> float:
    """Takes `seconds`, with `more` for it; returns what it took."""
    started = time.monotonic()
    rqd.extend_timeout(more)
    while time.monotonic() - started < seconds:
        time.sleep(0.01)  # the job's own work
    return time.monotonic() - started


def extend_and_hog(seconds: float, more: float) -> str:
    """As above, in one call that lets no other thread of Python run, nor any signal's handler."""
    import ctypes

    rqd.extend_timeout(more)
    libc = ctypes.PyDLL(None)
    libc.usleep(int(seconds * 1e6))
    return "done"


def fail_every_second(path: str) -> int:
    append(path, "attempt")
    seen = len(read(path).split())
    if seen % 2:
        raise ValueError(f"attempt {seen}")
    return seen


def say_and_die(text: str) -> None:
    print(text)
    os.kill(os.getpid(), signal.SIGKILL)


def say_and_fail(text: str) -> None:
    """By Python, by the descriptor, and by another program."""
    print(text)
    sys.stdout.flush()
    os.write(2, b"and here\n")
    os.system("echo and there")
    raise ValueError(text)


def append_and_die(path: str, word: str) -> None:
    append(path, word)
    os.kill(os.getpid(), signal.SIGKILL)


def say_as_told(fifo: str) -> str:
    """Prints what comes through the pipe, until that ends with `end`."""
    while not (words := read(fifo)).endswith("end"):
        print(words, flush=True)
    print(words.removesuffix("end"), end="")
    return "told"


def fail_then_say_as_told(path: str, fifo: str) -> str:
    """Prints and fails at its first run; then as `say_as_told`."""
    if not os.path.exists(path):
        append(path, "failed")
        print("of the first")
        raise ValueError("the first")
    return say_as_told(fifo)


def leave_a_chatterbox() -> str:
    import subprocess

    subprocess.Popen(["yes", "chatter"])
    return "done"


def in_a_slot(folder: str, slots: int, dies: bool) -> str:
    """Holds one of so many locks for a while; if none is free, too many run at once.

    The kernel takes the lock from whoever dies.
    """
    import fcntl

    for number in range(slots):
        with open(f"{folder}/slot-{number}", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            time.sleep(0.02)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return "done"
    append(f"{folder}/violations", "too many")
    return "violation"


def nap(seconds: float) -> None:
    time.sleep(seconds)


def segfault_beside_a_thread() -> None:
    beside_a_thread()
    segfault()


def beside_a_thread() -> None:
    import threading

    threading.Thread(target=wait_in_a_thread, daemon=True).start()


def wait_in_a_thread() -> None:
    import threading

    threading.Event().wait()


def time_out_beside_a_thread() -> None:
    beside_a_thread()
    run_for_ever()


def keep_the_gil(fifo: str = "") -> None:
    """C code for ever: no other thread runs, and no signal handler written in Python."""
    import itertools

    if fifo:
        with open(fifo, "w") as file:
            file.write("here")
    sum(itertools.repeat(0))


def become_a_shell(script: str) -> None:
    os.execvp("sh", ["sh", "-c", script])


def append_slowly(path: str, word: str, seconds: float) -> None:
    time.sleep(seconds)
    append(path, word)
