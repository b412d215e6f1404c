"""The fixtures for pytest, by the name in the wheel's metadata. The code is in `rqd.testing`."""

from rqd.testing.pytest_plugin import rqd_queue, rqd_server

__all__ = ["rqd_queue", "rqd_server"]
