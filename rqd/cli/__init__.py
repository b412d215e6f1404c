"""The `rqd` command: arguments become a Config or a call, errors one line and an exit code."""

from rqd.cli.main import main

__all__ = ["main"]
