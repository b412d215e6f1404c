"""The demo's jobs: plain functions in a module that the daemon can import."""

import ctypes
import io
import os
import re
import resource
import time
import tokenize
from collections import Counter
from pathlib import Path

_WORD = re.compile(r"[a-z]{5,}")
_DOCSTRING = re.compile(r'[a-z]*("""|\'\'\')', re.IGNORECASE)


def count_words(path: str) -> Counter[str]:
    """How often each word of five letters or more stands in a module's comments and docstrings."""
    words: Counter[str] = Counter()
    source = io.BytesIO(Path(path).read_bytes())
    for token in tokenize.tokenize(source.readline):
        is_prose = token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and _DOCSTRING.match(token.string)
        )
        if is_prose:
            words.update(_WORD.findall(token.string.lower()))
    return words


def total_of_prices(prices: list[str]) -> float:
    """Adds up prices; has no idea what to do with the word `twelve`."""
    return sum(_price(text) for text in prices)


def read_null_pointer() -> None:
    """What a bug in a C extension does: SIGSEGV, and no Python code can catch it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a demo leaves no core files behind
    ctypes.string_at(0)


def load_whole_table() -> int:
    """Reads row after row into memory, as a query without a limit does."""
    rows = []
    while True:
        rows.append(os.urandom(1024 * 1024))
        time.sleep(0.005)


def call_flaky_service(folder: str) -> str:
    """Fails the first two times it is called."""
    calls = len(os.listdir(folder)) + 1
    Path(folder, f"call-{calls}").touch()
    if calls <= 2:
        raise ConnectionError(f"call {calls}: connection reset by peer")
    return f"answered call {calls}"


def _price(text: str) -> float:
    return float(text.removeprefix("EUR "))
