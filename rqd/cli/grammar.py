"""The grammar of the commands: verbs stand first or last; help ends with the shared options."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from rqd.cli.suggest import did_you_mean

_WIDEST_NAMES = 30  # click puts the help of longer names on a line of its own
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class SharedOption(click.Option):
    """An option that most commands have: help lists it last."""


class Command(click.Command):
    """A command whose help lists its own options before the shared options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes both sections, with their texts in one column."""
        own, shared = list[tuple[str, str]](), list[tuple[str, str]]()
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                is_help = not set(ctx.help_option_names).isdisjoint(param.opts)
                is_shared = isinstance(param, SharedOption) or is_help
                (shared if is_shared else own).append(record)
        write_sections(formatter, {"Options": own, "Shared options": shared})

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes like click; the default command of a group completes the group's verbs, too."""
        return super().shell_complete(ctx, incomplete) + _verbs_from(ctx, incomplete)


class VerbGroup(click.Group):
    """A group whose commands are verbs: `rqd job stop ID` is `rqd job ID stop`.

    The verb is the first word or the last, wherever options stand. If both are verbs, nothing is
    done. Words behind `--` are names; the last may be the verb if no word stands before `--`.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        noun: str,
        default: str,
        **kwargs: Any,
    ) -> None:
        """`noun` stands for the names in help; `default` is the verb if none is written."""
        super().__init__(*args, **kwargs)
        self.default = default
        self._noun = noun

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Returns the verbs in the order of the code."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses like click, with the verb in front. Raises UsageError for two verbs, or none."""
        return super().parse_args(ctx, self.verb_first(ctx, args))

    def verb_first(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Returns the arguments with their verb in front. Raises UsageError."""
        before, options, after = self._scan(args)
        words = before + after
        is_first = bool(before) and args[before[0]] in self.commands
        # Behind `--` the verb may only be the last word, and only where no word stands before.
        is_last = len(words) > 1 and args[words[-1]] in self.commands and not (before and after)
        wants_help = any(one in ctx.help_option_names for one in options)
        if not is_first and not is_last:
            if wants_help:
                return [ctx.help_option_names[0]]
            if not ctx.resilient_parsing and self._check_options(ctx, self.default, options):
                self._check_default(ctx, args, before, after)
            return [self.default, *args]
        at = words[0 if is_first else -1]
        verb, rest = args[at], args[:at] + args[at + 1 :]
        if not wants_help and not ctx.resilient_parsing:
            if is_first and is_last:
                raise click.UsageError(self._two_verbs(ctx, args, words), ctx)
            if len(words) == 1:
                self._check_alone(ctx, verb)
            self._check_options(ctx, verb, options)
        return [verb, *rest]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Returns the words behind the group's name in its usage."""
        return ["[COMMAND]", "[OPTIONS]", self._noun]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs: the options are theirs."""
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes where a verb may stand, and how to write a name that is a verb."""
        path, verb, noun = ctx.command_path, self._visible()[-1], self._noun.strip("[].")
        for line in (
            f"{path} COMMAND --help shows its options. Without a command: {path} {self.default}.",
            f"The command may come last: {path} {verb} {noun} is {path} {noun} {verb}.",
            f"Write -- before a name that is a command, too: {path} {verb} -- {verb}.",
        ):
            formatter.write_paragraph()
            formatter.write_text(line)

    def verbs_from(self, beginning: str) -> list[CompletionItem]:
        """Returns the verbs with this beginning, for a shell."""
        return [
            CompletionItem(name, help=self.commands[name].get_short_help_str())
            for name in self._visible()
            if name.startswith(beginning)
        ]

    def _scan(self, args: list[str]) -> tuple[list[int], list[str], list[int]]:
        """Returns the indexes of words before `--`, the options, the indexes of words behind `--`.

        Words are neither options nor values of options.
        """
        valued = self._valued()
        words, options, is_value = list[int](), list[str](), False
        for at, arg in enumerate(args):
            if is_value:
                is_value = False
            elif arg == "--":
                return words, options, list(range(at + 1, len(args)))
            elif arg.startswith("-") and arg != "-":
                options.append(arg.partition("=")[0] if arg.startswith("--") else arg[:2])
                is_value = arg in valued
            else:
                words.append(at)
        return words, options, []

    def _valued(self) -> set[str]:
        """Returns the options, of all verbs, that have a value."""
        return {
            spelt
            for command in self.commands.values()
            for param in command.params
            if isinstance(param, click.Option) and not param.is_flag and not param.count
            for spelt in param.opts
        }

    def _check_default(
        self, ctx: click.Context, args: list[str], before: list[int], after: list[int]
    ) -> None:
        """Raises UsageError if the default verb has no use for so many words."""
        arguments = _arguments(self.commands[self.default])
        if any(one.nargs < 0 for one in arguments) or len(before + after) <= len(arguments):
            return
        path, verbs = ctx.command_path, self._visible()
        for at in before:
            if args[at] in self.commands:
                names = [args[other] for other in before + after if other != at]
                write = shlex.join([args[at], "--", *names])
                raise click.UsageError(f"{args[at]!r} stands first: write {path} {write}", ctx)
            if near := did_you_mean(args[at], verbs):
                raise click.UsageError(f"there is no command {args[at]!r}{near}", ctx)
        if not before:
            raise click.UsageError(f"write {path} COMMAND -- ..: {', '.join(verbs)}", ctx)
        raise click.UsageError(f"{args[before[-1]]!r} is not one of {', '.join(verbs)}", ctx)

    def _check_alone(self, ctx: click.Context, verb: str) -> None:
        """Raises UsageError for a verb that lacks its name, and may be a name itself."""
        wanted = [one for one in _arguments(self.commands[verb]) if one.required]
        if wanted and _arguments(self.commands[self.default]):
            named = " ".join(one.human_readable_name for one in wanted)
            path = ctx.command_path
            raise click.UsageError(
                f"{path} {verb}: write {path} {verb} {named}; to show {verb!r} write"
                f" {path} -- {verb}",
                ctx,
            )

    def _check_options(self, ctx: click.Context, verb: str, options: list[str]) -> bool:
        """Raises UsageError for an option that only other verbs have; True if all are known."""
        having: dict[str, list[str]] = {}
        for name, command in self.commands.items():
            for param in command.params:
                for spelt in (*param.opts, *param.secondary_opts):
                    having.setdefault(spelt, []).append(name)
        for option in options:
            if verb not in (verbs := having.get(option, [verb])):
                named = " and ".join(f"`{one}`" for one in verbs)
                raise click.UsageError(f"{option} is an option of {named}", ctx)
        return having.keys() >= set(options)

    def _two_verbs(self, ctx: click.Context, args: list[str], words: list[int]) -> str:
        """Makes the error for two verbs, with the spelling of either meaning."""
        first, last = args[words[0]], args[words[-1]]
        names = [args[at] for at in words]
        path = ctx.command_path
        meant = {shlex.join([first, "--", *names[1:]]), shlex.join([last, "--", *names[:-1]])}
        write = ", or ".join(f"{path} {one}" for one in sorted(meant))
        return f"{first!r} and {last!r} are both commands: write {write}"

    def _visible(self) -> list[str]:
        return [name for name, command in self.commands.items() if not command.hidden]


def write_sections(
    formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]
) -> None:
    """Writes lists under their headings, with all their texts in the same column."""
    rows = [row for section in sections.values() for row in section]
    widest = min(_WIDEST_NAMES, max((len(name) for name, _ in rows), default=0))
    for heading, section in sections.items():
        if section:
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{widest}}", text) for name, text in section])


def verbs_too(complete: Complete) -> Complete:
    """Completes the verbs of the group besides names, for the first word."""

    def both(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _verbs_from(ctx, incomplete) + complete(ctx, parameter, incomplete)

    return both


def _verbs_from(ctx: click.Context, beginning: str) -> list[CompletionItem]:
    """Returns the verbs with this beginning, if no verb is written yet."""
    group = ctx.parent.command if ctx.parent else None
    if isinstance(group, VerbGroup) and group.default == ctx.command.name:
        return group.verbs_from(beginning)
    return []


def _arguments(command: click.Command) -> list[click.Argument]:
    return [one for one in command.params if isinstance(one, click.Argument)]
