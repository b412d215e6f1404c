"""What a type checker knows of a job and its function."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SNIPPET = """
from datetime import UTC, datetime, timedelta

import rqd.aio
from rqd import Queue
from rqd.decorators import job
from rqd.job import Job

def f(x: int) -> int: return x
async def g(x: int) -> str: return ""
class C:
    def m(self, x: int) -> bytes: return b""

@job("q")
def h(x: int, *, word: str = "") -> float: return 1.0
@job("q")
async def a(x: int) -> str: return ""

reveal_type(Queue().enqueue(f, 1))
reveal_type(Queue().enqueue(f, 1).return_value())
reveal_type(Queue().enqueue(g, 1))
reveal_type(Queue().enqueue(C().m, 1))
reveal_type(Queue().enqueue("m.f", 1))
reveal_type(Queue().enqueue_in(timedelta(1), f, 1))
reveal_type(Queue().enqueue_at(datetime.now(UTC), g, 1))
reveal_type(h.delay(1, word="a"))
reveal_type(h.enqueue(1, job_id="a"))
reveal_type(h(1))
reveal_type(a.delay(1))

async def there(queue: rqd.aio.Queue) -> None:
    reveal_type(await queue.enqueue_in(timedelta(1), f, 1))

def report(job: Job, other: rqd.aio.Job) -> None:
    reveal_type((job.return_value(), other.handle))

h.delay("no")
h.delay()
h.delay(1, words="no")
a.delay(None)
"""
REVEALED = [
    "rqd.client.job.Job[int]",
    "int | None",
    "rqd.client.job.Job[str]",
    "rqd.client.job.Job[bytes]",
    "rqd.client.job.Job[Any]",
    "rqd.client.job.Job[int]",
    "rqd.client.job.Job[str]",
    "rqd.client.job.Job[float]",
    "rqd.client.job.Job[float]",
    "float",
    "rqd.client.job.Job[str]",
    "rqd.client.aio.Job[int]",
    "tuple[Any | None, rqd.client.job.Job[Any]]",
]


def test_enqueue_and_delay_keep_the_types_of_the_function(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(snippet)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )

    told = checked.stdout.splitlines()
    shown = [line.split('"')[1] for line in told if "Revealed type is" in line]
    revealed = [kind.replace("builtins.", "") for kind in shown]  # older versions of mypy
    assert revealed == REVEALED, checked.stdout + checked.stderr
    errors = [(line.split(":")[1], line.rsplit("[")[-1]) for line in told if " error: " in line]
    first = SNIPPET.splitlines().index('h.delay("no")') + 1
    assert errors == [
        (str(first), "arg-type]"),
        (str(first + 1), "call-arg]"),
        (str(first + 2), "call-arg]"),
        (str(first + 3), "arg-type]"),
    ], checked.stdout
