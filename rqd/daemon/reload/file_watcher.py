"""Reports changes in the application's code, in a process that `--autoreload` starts.

The library starts threads, so it does not run in the master. It imports nothing of the application.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def tell_changes(folders: Sequence[str], modules: Sequence[str]) -> None:
    """Writes a line with a file's name when Python files have changed and are at rest again.

    Watches the folders and the packages of the modules; ends with its standard input.
    """
    from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an extra, for this process only

    threading.Thread(target=_end_with_input, daemon=True).start()
    for changes in watch(*places_of(folders, modules), watch_filter=PythonFilter()):
        names = sorted(os.path.relpath(path) for _, path in changes)
        sys.stdout.write(f"{names[0]}\n")
        sys.stdout.flush()


def places_of(folders: Iterable[str], modules: Iterable[str]) -> list[Path]:
    """Returns the folders and files to watch, none of which lies in another."""
    found = {Path(folder).resolve() for folder in folders}
    for name in sorted({module.partition(".")[0] for module in modules}):
        found.update(_homes_of(name))
    return sorted(one for one in found if not any(other in found for other in one.parents))


def _homes_of(name: str) -> Iterator[Path]:
    """Yields a package's folders, or a module's file. A name without a dot imports nothing."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        yield from (Path(folder).resolve() for folder in spec.submodule_search_locations)
    elif spec.origin is not None and os.path.isfile(spec.origin):
        yield Path(spec.origin).resolve()


def _end_with_input() -> None:
    """Ends the process when its standard input closes, as the master is gone then."""
    os.read(0, 1)
    os._exit(0)
