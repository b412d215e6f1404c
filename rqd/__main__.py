"""`python -m rqd` is the `rqd` command."""

from rqd.cli import main

main()
