"""Where a child's objects come to lie: in a fresh interpreter, as a zygote is one."""

import subprocess
import sys

PROGRAM = """
from rqd.daemon.zygote.fork_memory import fill_partial_pools

SIZES = range(48, 513, 16)
made = {size: [bytes(size - 33) for _ in range(600)] for size in SIZES}
for blocks in made.values():
    del blocks[::7]  # a hole in every page
if FILLS:
    kept = fill_partial_pools()
apart = 0
for size in SIZES:
    first, second = bytes(size - 33), bytes(size - 33)
    apart += id(second) != id(first) + size
print(apart)
"""


def sizes_that_lie_apart(*, fills: bool) -> int:
    program = PROGRAM.replace("FILLS", repr(fills))
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    return int(run.stdout)


def test_what_is_made_later_lies_side_by_side() -> None:
    assert sizes_that_lie_apart(fills=False) > 20
    # Of a few sizes it has itself let go of some.
    assert sizes_that_lie_apart(fills=True) < 5
