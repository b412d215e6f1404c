"""Orders to stop a job, as they may come from Redis; and whom they meet."""

from __future__ import annotations

from typing import Any

import pytest

from rqd.daemon.control.commands import DEFAULT_GRACE_S, Stop


@pytest.mark.parametrize(
    ("command", "stop"),
    [
        ({"token": "7:n", "by": "ops", "grace_s": 0}, Stop("7:n", "ops", 0.0)),
        ({"token": "7:n", "by": ["x"], "grace_s": "1"}, Stop("7:n", "somebody", DEFAULT_GRACE_S)),
        ({"grace_s": -1, "by": "x" * 999}, Stop("", "x" * 200, DEFAULT_GRACE_S)),
        ({"grace_s": float("nan")}, Stop("", "somebody", DEFAULT_GRACE_S)),
        ({}, Stop("", "somebody", DEFAULT_GRACE_S)),
    ],
)
def test_an_order_that_anybody_may_have_written_is_read_as_one(
    command: dict[str, Any], stop: Stop
) -> None:
    assert Stop.read(command) == stop
