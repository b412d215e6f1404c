"""`rqd completion SHELL`: the script by which a shell completes rqd's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rqd.cli.grammar import Command
from rqd.model.errors import RqdError

_PROGRAM = "rqd"
_VARIABLE = "_RQD_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion", cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="SHELL")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete commands.

    It completes options, names of queues, and ids of jobs, too.

    \b
    bash:  rqd completion bash > ~/.local/share/bash-completion/completions/rqd
    zsh:   eval "$(rqd completion zsh)"       (in ~/.zshrc, after compinit)
    fish:  rqd completion fish > ~/.config/fish/completions/rqd.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise RqdError(f"no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
