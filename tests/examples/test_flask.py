"""The recipe for Flask, beyond what it has in common with the recipe for FastAPI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.conftest import Serve
from tests.examples.serving import Stream
from tests.waiting import eventually

SMALL = """
from app import create_app

app = create_app(MOST_STREAMS=1, PING_S=0.1)
"""
OPEN = """
from app import create_app

app = create_app(SHOP_PASSWORD=None, SECRET_KEY="s" * 32)
"""
FULL = "retry: 10000\n"


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The shop with room for one stream, which tries often whether somebody still reads."""
    (tmp_path / "small.py").write_text(SMALL)
    return "small:app"


def test_one_stream_too_many_is_told_when_to_come_again(serve: Serve, small: str) -> None:
    site = serve("flask", target=small)
    events = f"{site.order('tea')}/events"
    with Stream(site, events) as first:
        assert first.next() is not None
        with Stream(site, events) as second:
            assert second.answer.status_code == 200
            assert second.raw() == FULL


def test_who_leaves_makes_room_for_the_next(serve: Serve, small: str) -> None:
    site = serve("flask", target=small)
    events = f"{site.order('tea')}/events"
    first = Stream(site, events)
    assert first.next() is not None
    first.close()

    def has_room() -> bool:
        with Stream(site, events) as other:
            return other.next() is not None

    eventually(has_room, 10.0)
    assert "Traceback" not in site.log()


def test_a_look_at_the_headers_takes_no_room(serve: Serve, small: str) -> None:
    site = serve("flask", target=small)
    events = f"{site.order('tea')}/events"

    assert site.client.head(events).status_code == 200
    with Stream(site, events) as stream:
        assert stream.next() is not None


def test_without_a_password_nobody_logs_in(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "open.py").write_text(OPEN)
    site = serve("flask", target="open:app")

    for password in ("", "None", "open sesame"):
        assert site.client.post("/login", data={"password": password}).status_code == 403
