# SPDX-License-Identifier: BUSL-1.1
"""A group of commands that imports each when it is called, and corrects a misspelt one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

Table = Mapping[str, tuple[str, str, str]]
"""By name: the module in `axon_client.commands`, the command in it, its line in the help."""


class LazyGroup(click.Group):
    """A group of commands.

    Args:
        table: the commands that are imported late, beside those added as usual.
        elsewhere: what others call them, by name: how it is written here.
    """

    def __init__(
        self,
        *args: Any,
        table: Table,
        elsewhere: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.table = table
        self.elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names: those added as usual, then those of the table."""
        return [*self.commands, *self.table]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return self.commands.get(cmd_name)
        module, name, _ = self.table[cmd_name]
        command = getattr(importlib.import_module(f"axon_client.commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and their lines, without importing any."""
        late = [(name, line) for name, (_, _, line) in self.table.items()]
        added = [(name, _first_line(command)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(added + late)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The names that begin so, without importing any command."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        helps = {name: line for name, (_, _, line) in self.table.items()}
        return [CompletionItem(name, help=helps.get(name)) for name in names]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the command that was meant by a misspelt one."""
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            ctx.fail(f"No such command {args[0]!r}. {self._meant(args[0], names)}")
        return super().resolve_command(ctx, args)

    def _meant(self, name: str, names: list[str]) -> str:
        near = difflib.get_close_matches(name, names, n=1)
        meant = self.elsewhere.get(name) or next(iter(near), "")
        return f"Did you mean {meant!r}?" if meant else f"There are: {', '.join(names)}."


def _first_line(command: click.Command) -> str:
    return (command.help or "").partition("\n")[0]
