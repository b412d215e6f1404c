"""What an application has in memory in huge pages: in a fresh interpreter, as a zygote is one."""

import subprocess
import sys

from rqd.daemon.zygote.fork_memory import collapse, full_areas
from tests.huge_pages import needs_huge_pages

MIB = 1024 * 1024
SMAPS = """\
55d2a3dff000-55d2a4301000 rw-p 00000000 00:00 0                          [heap]
Size:               5128 kB
Rss:                5100 kB
Pss:                5100 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000400000 r--p 00000000 fd:00 1234                       /lib/libc.so.6
Rss:                4096 kB
7f0001000000-7f0001800000 rw-p 00000000 00:00 0
Rss:                  64 kB
7f0002100000-7f0002300000 rw-p 00000000 00:00 0
Rss:                2048 kB
7f0003000000-7f0003400000 rw-p 00000000 fd:00 1234                       /srv/a file
Rss:                4096 kB
7f0004000000-7f0004600000 rw-p 00000000 00:00 0
Rss:                6144 kB
7f0005000000-7f0005400000 rw-s 00000000 00:00 0
Rss:                4096 kB
"""
PROGRAM = """
import os, sys
from rqd.daemon.zygote.fork_memory import use_huge_pages

rows = [None] * ROWS
for number in range(ROWS):
    rows[number] = {"number": number}
print(use_huge_pages())
print("ctypes" in sys.modules)
pid = os.fork()
if pid == 0:
    for row in rows:
        row["number"] += 1
    os._exit(0 if all(row["number"] == at + 1 for at, row in enumerate(rows)) else 1)
print(os.waitpid(pid, 0)[1], all(row["number"] == at for at, row in enumerate(rows)))
with open("/proc/self/smaps_rollup") as rollup:
    (told,) = (line.split()[1] for line in rollup if line.startswith("AnonHugePages:"))
print(int(told) * 1024)
"""


def run(rows: int) -> list[str]:
    program = PROGRAM.replace("ROWS", str(rows))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_whole_huge_pages_of_written_memory_without_a_file_are_found() -> None:
    found = [*full_areas(SMAPS.splitlines(), 2 * MIB)]

    assert found == [(0x55D2A3E00000, 4 * MIB), (0x7F0004000000, 6 * MIB)]


def test_an_area_with_a_page_in_use_is_tried_again_and_one_that_never_can_be_is_not_told() -> None:
    in_use = {MIB: 1, 4 * MIB: 100}

    def madvise(at: int, _length: int, _advice: int) -> int:
        in_use[at] = in_use.get(at, 0) - 1
        return -1 if in_use[at] >= 0 else 0

    assert collapse([(0, 2), (MIB, 4), (4 * MIB, 8)], madvise) == 6


@needs_huge_pages
def test_a_large_applications_memory_is_in_huge_pages_and_says_the_same() -> None:
    bytes_told, loaded, after_fork, huge = run(rows=200_000)

    assert int(bytes_told) >= 16 * MIB
    assert after_fork == "0 True"
    assert loaded == "True"
    # Where the fork's two have written since, the kernel has divided some.
    assert 0 < int(huge) <= int(bytes_told)


def test_for_a_small_application_nothing_is_done_or_loaded() -> None:
    assert run(rows=100)[:3] == ["0", "False", "0 True"]
