"""What a tree of processes uses: cpu seconds by place in the tree, memory by its share of pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

PARTS = ("master", "zygote or pool", "jobs", "server")


def cpu_seconds(root: int, server: int) -> dict[str, float]:
    """Used so far, user's and system's: of the tree's root, of its children (a zygote, or the
    workers of a pool), of their children and of all that were reaped, and of the server.
    """
    used = dict.fromkeys(PARTS, 0.0)
    for depth, process in _tree(psutil.Process(root)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # reaped meanwhile: its parent has its times
        used[PARTS[min(depth, 2)]] += times.user + times.system
        used["jobs"] += times.children_user + times.children_system
    times = psutil.Process(server).cpu_times()
    used["server"] = times.user + times.system
    return used


def exact_cpu_seconds(root: int) -> float:
    """Of all of the tree that are alive, to the nanosecond: for little use over a short time."""
    total = 0
    for _, process in _tree(psutil.Process(root)):
        for stat in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
    return total / 1e9


def proportional_bytes(root: int) -> int:
    """PSS of the tree: a page that n processes share counts for an n-th in each."""
    total = 0
    for _, process in _tree(psutil.Process(root)):
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
    return total * 1024


def _tree(process: psutil.Process, depth: int = 0) -> Iterator[tuple[int, psutil.Process]]:
    """Each process with its depth; one that goes meanwhile is left out."""
    try:
        children = process.children()
        with process.oneshot():
            yield depth, process
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _tree(child, depth + 1)
