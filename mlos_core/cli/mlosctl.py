# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl`: the command line of a running daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from mlos_core import __version__
from mlos_core.cli import admin
from mlos_core.cli.chat.command import chat
from mlos_core.cli.context import Context
from mlos_core.cli.demo.command import demo
from mlos_core.cli.fail import guarded
from mlos_core.cli.infer import infer
from mlos_core.cli.models import models
from mlos_core.cli.plugins import plugins
from mlos_core.cli.register import register, unregister
from mlos_core.cli.top.command import top
from mlos_core.errors import InvalidInput

_SHELLS: Final = ("bash", "zsh", "fish")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlosctl")
@click.option("--socket", metavar="PATH", help="The daemon's control socket (MLOS_SOCKET).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def mlosctl(context: click.Context, socket: str | None, as_json: bool) -> None:
    """Talk to the MLOS daemon: register models, ask them, see how they are."""
    context.obj = Context(socket, as_json)


@mlosctl.command()
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
def completion(shell: str | None) -> None:
    """Print the completion script of SHELL (default: yours).

    For bash: `eval "$(mlosctl completion bash)"` in ~/.bashrc.
    """
    with guarded(as_json=False):
        name = shell or Path(os.environ.get("SHELL", "")).name
        kind = get_completion_class(name)
        if kind is None:
            raise InvalidInput(
                f"no completion for the shell {name!r}", hint="name bash, zsh or fish"
            )
        click.echo(kind(mlosctl, {}, "mlosctl", "_MLOSCTL_COMPLETE").source())


for _command in (
    admin.status,
    models,
    register,
    unregister,
    infer,
    chat,
    plugins,
    admin.stats,
    top,
    demo,
):
    mlosctl.add_command(_command)


def main() -> None:
    """Entry point."""
    mlosctl(prog_name="mlosctl")


if __name__ == "__main__":
    main()
