"""Reads a process's Python stacks from faulthandler, and leaves out rqd's own frames.

Finds the innermost frame of the job's code, by which failures are grouped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rqd.model.numbers import read_whole

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
_THREAD = re.compile(
    r"^(?P<current>Current )?[Tt]hread 0x(?P<id>[0-9a-f]+)(?: \[(?P<name>.*)\])?"
    r"(?P<gc> *\(.*\))?(?: \(most recent call first\))?:$"
)
_OWN_FOLDER = str(Path(__file__).parent.parent) + "/"
# The outermost frame of a child's main thread: the zygote is an interpreter with -c.
_ENTRY = ("<string>", "<module>")
_ALARM = "daemon/zygote/timer.py"
_MOST_CHARS = 64 * 1024
_IN_TRACEBACK = re.compile(r'File "([^"\n]{1,4096})", line (\d{1,9}), in ([^\n]{1,500})')
_INSTALLED = re.compile(r".*/(?:(?:site|dist)-packages|lib/python3\.\d+)/")
_MOST_PATH_CHARS, _MOST_NAME_CHARS = 120, 80


@dataclass(frozen=True, slots=True)
class Frame:
    """A call and its place in the source; line 0 if that is unknown."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread and its calls, innermost first; the current thread was running Python."""

    id: str
    is_current: bool
    frames: tuple[Frame, ...]
    name: str = ""


def without_own_frames(text: str, most_chars: int = _MOST_CHARS) -> str:
    """Returns the stacks without rqd's own frames, so that each thread begins with the job's code.

    Cuts a text longer than `most_chars` in its middle.
    """
    shown: list[str] = []
    for is_frames, lines in _portions(text):
        shown += _of_the_job(lines) if is_frames else lines
    joined = "\n".join(shown).strip("\n")
    if len(joined) > most_chars:
        # The main thread comes last.
        joined = f"{joined[: most_chars // 2]}\n...\n{joined[-most_chars // 2 :]}"
    return joined


def is_whole(text: str) -> bool:
    """True if the stack is complete: it ends with the main thread, which is written last."""
    lines = text.rstrip("\n").rpartition("\n")[2]
    found = _FRAME.match(lines)
    return (
        text.endswith("\n") and found is not None and (found["file"], found["function"]) == _ENTRY
    )


def threads_of(text: str) -> list[Thread]:
    """Returns the threads of a stack in the order of writing, the main thread last."""
    threads: list[Thread] = []
    head = None
    for is_frames, lines in _portions(text):
        if is_frames and head is not None:
            frames = tuple(filter(None, map(_frame, lines)))
            is_current = head["current"] is not None
            threads.append(Thread(head["id"], is_current, frames, head["name"] or ""))
            head = None
        elif not is_frames:
            found = list(filter(None, map(_THREAD.match, lines)))
            head = found[-1] if found else head
    return threads


def innermost_frame(traceback: str, stack: str = "") -> str:
    """Returns `file:line function` of the innermost frame outside rqd; empty if there is none.

    The stack, as faulthandler writes it, counts only without a frame in the traceback. Paths are
    shown from the folder of installed packages on, and cut to 120 characters.
    """
    for file, line, function in reversed(_IN_TRACEBACK.findall(traceback)):
        if not file.startswith(_OWN_FOLDER):
            return _frame_text(Frame(file, int(line), function))
    threads = threads_of(stack)
    current = [thread for thread in threads if thread.is_current] or threads[-1:]
    frames = [frame for thread in current[:1] for frame in thread.frames]
    own = (frame for frame in frames if not _is_rqds(frame))
    return next(map(_frame_text, own), "")


def _frame_text(frame: Frame) -> str:
    path = _INSTALLED.sub("", frame.file)[-_MOST_PATH_CHARS:]
    return f"{path}:{frame.line} {frame.function[:_MOST_NAME_CHARS]}"


def _portions(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Yields runs of consecutive lines in their order, with True for runs of frames."""
    portion: list[str] = []
    is_frames = False
    for line in text.splitlines():
        is_frame = _FRAME.match(line) is not None
        if is_frame is not is_frames and portion:
            yield is_frames, portion
            portion = []
        is_frames = is_frame
        portion.append(line)
    if portion:
        yield is_frames, portion


def _of_the_job(lines: list[str]) -> list[str]:
    """Leaves out the frames below which the job runs, and the alarm's frames above it."""
    first, end = 0, len(lines)
    while end and _is_below_the_job(lines[end - 1]):
        end -= 1
    while first < end and _file(lines[first]) == _OWN_FOLDER + _ALARM:
        first += 1
    return lines[first:end] or lines


def _is_below_the_job(line: str) -> bool:
    frame = _frame(line)
    if frame is None:
        return False
    return _is_rqds(frame)


def _is_rqds(frame: Frame) -> bool:
    return frame.file.startswith(_OWN_FOLDER) or (frame.file, frame.function) == _ENTRY


def _file(line: str) -> str:
    frame = _frame(line)
    return frame.file if frame else ""


def _frame(line: str) -> Frame | None:
    found = _FRAME.match(line)
    if found is None:
        return None
    number = found["line"]
    return Frame(found["file"], read_whole(number) or 0, found["function"])
