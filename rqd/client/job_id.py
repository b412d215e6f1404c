"""Makes ids for jobs that were enqueued without one."""

from __future__ import annotations

import os

_UUID_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def new_job_id() -> str:
    """Makes a random id in the form of a UUID, version 4."""
    # By hand: uuid4() costs four times as much, on the path of every enqueue.
    text = os.urandom(16).hex()
    variant = _UUID_VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
