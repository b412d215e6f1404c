"""`VERSION`, at RQ's path."""

from rqd import __version__ as VERSION  # noqa: N812 - RQ's name

__all__ = ["VERSION"]
