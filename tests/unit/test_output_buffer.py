"""Whose output is whose, where a process goes on to its next job by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.workers.output_buffer import OutputSplitter
from rqd.daemon.zygote.protocol import mark_of
from tests.fuzzing import fuzz

A, B, C = (mark_of(b"7:%d" % number) for number in range(3))


def test_what_comes_before_a_mark_is_of_the_job_before() -> None:
    segments = OutputSplitter()
    segments.expect(A)

    assert segments.feed(b"first\n" + A + b"second\n", b"") == b"first\n"
    assert segments.has_whole(b"")
    assert segments.feed(b"", A) == b"second\n"
    assert not segments.has_whole(A)
    assert segments.feed(b"more\n", A) == b"more\n"


def test_a_mark_that_came_in_two_pieces_is_one() -> None:
    segments = OutputSplitter()
    segments.expect(A)

    assert segments.feed(b"first" + A[:2], b"") == b"first"
    assert segments.feed(A[2:] + b"second", b"") == b""
    assert segments.feed(b"", A) == b"second"


def test_what_only_looks_like_a_marks_beginning_is_output() -> None:
    segments = OutputSplitter()
    segments.expect(A)

    assert segments.feed(b"zero \0", b"") == b"zero "
    assert segments.feed(b" and one", b"") == b"\0 and one"


def test_a_job_that_was_taken_back_leaves_no_mark_to_wait_for() -> None:
    segments = OutputSplitter()
    segments.expect(A)
    segments.forget(A)

    assert segments.feed(b"\0", b"") == b"\0"


def test_a_mark_that_never_came_ends_nothing() -> None:
    segments = OutputSplitter()
    for mark in (A, B):
        segments.expect(mark)

    assert segments.feed(b"of both", A) == b"of both"
    assert segments.feed(B + b"of b", B) == b"of b"


@fuzz(100)
@given(
    st.lists(st.binary(max_size=6) | st.sampled_from([A[:2], B[:3], b"\0", b""]), max_size=4),
    st.lists(st.integers(1, 9), max_size=30),
)
def test_in_whatever_pieces_it_comes_each_job_has_its_own(
    outputs: list[bytes], sizes: list[int]
) -> None:
    marks = [b"", A, B, C][: len(outputs)]
    segments, stream = OutputSplitter(), b""
    for mark, output in zip(marks, outputs, strict=True):
        if mark:
            segments.expect(mark)
        stream += mark + output
    found = []
    for mark in marks:
        told = segments.feed(b"", mark)
        while stream and not segments.has_whole(mark):
            size = sizes.pop() if sizes else len(stream)
            told += segments.feed(stream[:size], mark)
            stream = stream[size:]
        found.append(told)

    assert found == outputs
