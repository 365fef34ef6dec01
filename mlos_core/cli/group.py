# SPDX-License-Identifier: BUSL-1.1
"""Groups of commands that are commands too: `models`, `models NAME`, `models swap NAME`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from mlos_core.cli.context import Context


class NounGroup(click.Group):
    """A group that runs its command `default` for a word that is none of its commands."""

    default = "show"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with, or the default one."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        if len([word for word in args if not word.startswith("-")]) > 1:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" * len(near)))
        return self.default, self.commands[self.default], args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and what the default one takes."""
        arguments = (p for p in self.commands[self.default].params if isinstance(p, click.Argument))
        items = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            for argument in arguments:
                items += argument.shell_complete(ctx, incomplete)
        return items


def noun(name: str, bare: click.Command) -> Callable[[Callable[[], None]], NounGroup]:
    """Make a group of a function that does nothing; without a further word, `bare` runs.

    `--socket` and `--json` may stand in front of the word as well as behind it.
    """

    def decorate(function: Callable[[], None]) -> NounGroup:
        @click.group(name, cls=NounGroup, invoke_without_command=True, help=function.__doc__)
        @click.option("--socket", metavar="PATH", help="The daemon's control socket.")
        @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        @click.pass_context
        def group(context: click.Context, /, **given: Any) -> None:
            context.obj = Context.of(context, **given)
            if context.invoked_subcommand is None:
                context.invoke(bare)

        assert isinstance(group, NounGroup)
        group.add_command(bare)
        return group

    return decorate
