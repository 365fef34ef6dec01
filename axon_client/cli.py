# SPDX-License-Identifier: BUSL-1.1
"""The `axon` command: its subcommands by name, and how errors are shown.

A subcommand's module is imported when it is called, not before: help and completion answer
at once however much the others need.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from axon_client import render
from mlos_core.errors import MlosError

INTERRUPTED: Final = 130
COMMANDS: Final = {
    "install": ("install", "install", "Install a model."),
    "list": ("installed", "list_models", "List installed models."),
    "info": ("info", "info", "Show a model: its manifest, its files, their inputs and outputs."),
    "verify": ("installed", "verify", "Hash every file again, of the named models or of all."),
    "uninstall": ("installed", "uninstall", "Remove models, and the files no other model uses."),
    "register": ("register", "register", "Hand an installed model to the daemon."),
    "version": ("shell", "version", "Show the version."),
    "completion": ("shell", "completion", "Print what makes a shell complete axon's commands."),
}
"""By name: the module in `axon_client.commands`, the command in it, its line in the help."""


class _Group(click.Group):
    """Imports a command when it is called, and suggests the one that was meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"axon_client.commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Install, inspect and register models.

    A package is called namespace/name@version, for example pypi/magika@1.0.3. Models are
    kept in ~/.axon, or where AXON_HOME says.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code. Shows errors, raises none."""
    try:
        result = cli.main(list(arguments), prog_name="axon", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MlosError as error:
        return _fail(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(MlosError(f"{where}{error.strerror or error}"), arguments)
    except Exception as error:
        if os.environ.get("AXON_DEBUG"):
            raise
        fault = MlosError(f"{type(error).__name__}: {error}", hint="AXON_DEBUG=1 shows where")
        return _fail(fault, arguments)


def _fail(error: MlosError, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        render.show_json(render.error_json(error))
    else:
        render.show_error(error)
    return error.exit_code


def main() -> NoReturn:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
