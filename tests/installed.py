"""A copy of rqd, to be another one than this."""

from __future__ import annotations

import shutil
from pathlib import Path

import rqd as package
from tests.processes import found_first


class Installed:
    """A folder with rqd, where another rqd can be installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "rqd"
        shutil.copytree(Path(package.__file__).parent, self.package)
        self.env = found_first(folder)

    def upgrade(self, version: str) -> None:
        """The same code under another version."""
        self.edit("__init__.py", f'"{package.__version__}"', f'"{version}"')

    def edit(self, file: str, old: str, new: str) -> None:
        """Another text in one of its files, which are replaced, as pip does it."""
        path = self.package / file
        text = path.read_text()
        assert old in text
        path.unlink()
        path.write_text(text.replace(old, new, 1))
        # One that was compiled counts as this one where size and second are the same.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def spoil(self) -> None:
        """Another rqd, of which nothing that is asked for by now is there any more."""
        for path in [*self.package.rglob("*.py"), *self.package.rglob("*.lua")]:
            path.unlink()
            if path.suffix == ".py":
                path.write_text('raise ImportError("another rqd")\n')
