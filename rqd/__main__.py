"""The `rqd` command, which is `python -m rqd`, too: it begins here, before all that it imports."""

import sys

from rqd.daemon.early_signals import hold_early_signals


def main() -> None:
    """Runs the command line, and exits."""
    if sys.argv[1:2] == ["start"]:
        hold_early_signals()
    from rqd.cli import main as run  # noqa: PLC0415 - not before the signals are held

    run()


if __name__ == "__main__":
    main()
