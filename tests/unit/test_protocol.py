"""The frames between master, zygote and children: whole in any pieces, nonsense refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.daemon.zygote.protocol import Frame, FrameError, FrameReader, encode_frame
from tests.fuzzing import fuzz

frame = st.tuples(st.integers(0, 255), st.lists(st.binary(max_size=200), max_size=6))


@fuzz(40)
@given(st.lists(frame, max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_survive_any_cutting_of_the_stream(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(kind, *fields) for kind, fields in sent)
    reader, at = FrameReader(), 0
    got: list[Frame] = []
    for step in range(len(stream)):
        piece = stream[at : at + cuts[step % len(cuts)]]
        if not piece:
            break
        got += reader.feed(piece)
        at += len(piece)
    assert got == sent
    assert reader.rest == b""


@fuzz(40)
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_give_frames_or_a_frame_error(pieces: list[bytes]) -> None:
    reader = FrameReader(max_bytes=1000)
    try:
        for piece in pieces:
            for kind, fields in reader.feed(piece):
                assert 0 <= kind <= 255
                assert all(isinstance(field, bytes) for field in fields)
    except FrameError:
        return


@fuzz(40)
@given(st.lists(frame, min_size=1, max_size=4), st.integers(1, 1000))
def test_a_stream_that_breaks_off_gives_the_frames_before(sent: list[Frame], lost: int) -> None:
    whole = [encode_frame(kind, *fields) for kind, fields in sent]
    stream = b"".join(whole)[:-lost]
    got = FrameReader().feed(stream)
    assert got == sent[: len(got)]
    assert sum(map(len, whole[: len(got)])) <= len(stream)
    assert len(got) == len(sent) or sum(map(len, whole[: len(got) + 1])) > len(stream)


@fuzz(40)
@given(st.lists(frame, max_size=3), st.integers(0, 300), st.binary(min_size=1, max_size=8))
def test_a_stream_with_garbage_in_it_gives_frames_or_a_frame_error(
    sent: list[Frame], at: int, garbage: bytes
) -> None:
    stream = b"".join(encode_frame(kind, *fields) for kind, fields in sent)
    reader = FrameReader(max_bytes=10_000)
    try:
        for kind, fields in reader.feed(stream[:at] + garbage + stream[at:]):
            assert len(encode_frame(kind, *fields)) <= 10_004
    except FrameError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",  # no kind
        b"\xff\xff\xff\xff\x01",  # larger than any frame may be
        b"\0\0\0\x06\x01\0\0\0\xff\x01",  # a field that reaches past the frame's end
        b"\0\0\0\x03\x01\0\0",  # half a field's length
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(data)


def test_a_large_field_comes_through() -> None:
    payload = bytes(5_000_000)
    data, reader = encode_frame(20, payload), FrameReader()
    got: list[Frame] = []
    for at in range(0, len(data), 65536):
        got += reader.feed(data[at : at + 65536])
    assert got == [(20, [payload])]
