"""Stacks as faulthandler writes them, read and cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rqd
from rqd.daemon.workers.stack_file import StackFile
from rqd.model.stack import (
    Frame,
    Thread,
    innermost_frame,
    is_whole,
    threads_of,
    without_own_frames,
)

OWN = str(Path(rqd.__file__).parent)
TEXT = f"""\
Fatal Python error: Segmentation fault

Thread 0x00007f5a [worker-1] (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/app/tasks.py", line 7 in wait

Current thread 0x00007f5b (most recent call first):
  File "{OWN}/daemon/zygote/timer.py", line 90 in show_threads
  File "/app/tasks.py", line ??? in crash
  File "{OWN}/running.py", line 3 in called_by_the_job
  File "/app/tasks.py", line 12 in run
  File "{OWN}/daemon/zygote/child.py", line 309 in _run
  File "<string>", line 1 in <module>

Extension modules: numpy.core (total: 1)
"""


def test_the_jobs_own_frames_are_left() -> None:
    told = without_own_frames(TEXT)
    assert "timer.py" not in told
    assert "child.py" not in told
    assert "<string>" not in told
    assert told.startswith("Fatal Python error: Segmentation fault\n\nThread 0x00007f5a")
    assert told.endswith("Extension modules: numpy.core (total: 1)")
    assert threads_of(told) == [
        Thread(
            "00007f5a",
            False,
            (
                Frame("/usr/lib/python3.11/threading.py", 327, "wait"),
                Frame("/app/tasks.py", 7, "wait"),
            ),
            "worker-1",
        ),
        Thread(
            "00007f5b",
            True,
            (
                Frame("/app/tasks.py", 0, "crash"),
                Frame(f"{OWN}/running.py", 3, "called_by_the_job"),
                Frame("/app/tasks.py", 12, "run"),
            ),
        ),
    ]


def test_a_thread_of_rqds_own_frames_alone_keeps_them() -> None:
    own = f'  File "{OWN}/daemon/zygote/child.py", line 1 in live'
    text = f"Thread 0x1 (most recent call first):\n{own}"
    assert without_own_frames(text) == text


def test_a_stack_without_end_keeps_its_beginning_and_its_end() -> None:
    told = without_own_frames("a" * 100_000 + "z" * 100_000)
    assert len(told) < 66_000
    assert (told[0], told[-1]) == ("a", "z")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('Current thread 0x1:\n  File "<string>", line 1 in <module>\n', True),
        ('Current thread 0x1:\n  File "<string>", line 1 in <module>', False),
        ('Thread 0x1:\n  File "a.py", line 1 in <module>\n', False),
        ("", False),
    ],
)
def test_a_stack_is_whole_with_the_main_threads_first_frame(text: str, whole: bool) -> None:
    assert is_whole(text) is whole


def test_what_is_no_stack_has_no_threads() -> None:
    assert threads_of("") == threads_of("hello\n  File nowhere") == []


def test_a_file_of_stacks_can_be_neither_filled_nor_moved_out_of_its_room() -> None:
    stacks = StackFile()
    theirs = stacks.share()
    try:
        assert stacks.take() == ""
        os.write(theirs, b"first\n")
        start = stacks.written_bytes
        os.write(theirs, b"second\n")
        assert stacks.read(start) == "second\n"
        assert stacks.take(start) == "second"
        assert stacks.take() == ""
        os.write(theirs, b"third\n")
        assert stacks.take(start=stacks.written_bytes) == "third"  # nothing came after it
        assert os.write(theirs, b"x" * 2**20) < 2**20
        with pytest.raises(PermissionError):
            os.write(theirs, b"x")
        os.lseek(theirs, 2**40, os.SEEK_SET)
        assert stacks.take()
        with pytest.raises(PermissionError):
            os.ftruncate(theirs, 2**30)
        assert stacks.written_bytes == 0
    finally:
        os.close(theirs)
        stacks.close()


def test_the_innermost_frame_of_a_traceback_is_the_last_one_outside_rqd() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "/app/tasks.py", line 3, in send\n    post()\n'
        '  File "/v/lib/python3.11/site-packages/shop/net.py", line 40, in Net.post\n    raise\n'
        f'  File "{OWN}/daemon/zygote/timer.py", line 9, in _over\n'
        "rqd.exceptions.JobTimeoutException: 3 s\n"
    )
    assert innermost_frame(traceback, TEXT) == "shop/net.py:40 Net.post"


def test_without_a_frame_in_the_traceback_the_stack_of_the_current_thread_counts() -> None:
    assert innermost_frame("SyntaxError: odd", TEXT) == "/app/tasks.py:0 crash"
    waits = TEXT[: TEXT.index("Current thread")]
    assert innermost_frame("", waits) == "threading.py:327 wait"
    only_rqd = f'Thread 0x1 (most recent call first):\n  File "{OWN}/a.py", line 1 in f\n'
    assert innermost_frame("", only_rqd + '  File "<string>", line 1 in <module>\n') == ""


@pytest.mark.parametrize("text", ["", 'File "', 'File "x", line 9', 'File "' * 9_000, "\x00" * 99])
def test_a_text_that_is_no_traceback_has_no_frame(text: str) -> None:
    assert innermost_frame(text, text) == ""


def test_a_long_frame_is_cut() -> None:
    assert len(innermost_frame(f'File "/{"a" * 4000}", line 1, in {"f" * 400}')) < 210
