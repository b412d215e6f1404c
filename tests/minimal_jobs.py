"""Jobs in a module that imports next to nothing: they see what a child has by itself."""

import sys


def loaded(*modules: str) -> list[str]:
    return [name for name in modules if name in sys.modules]
