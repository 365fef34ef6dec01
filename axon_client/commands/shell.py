# SPDX-License-Identifier: BUSL-1.1
"""About axon itself: `axon version`, `axon completion`."""

from __future__ import annotations

import importlib.metadata

import click

from axon_client import render
from axon_client.commands.options import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version."""
    try:
        number = importlib.metadata.version("mlos-core")
    except importlib.metadata.PackageNotFoundError:
        number = "unknown"
    if as_json:
        render.show_json({"version": number, "manifest": "axon.mlos.io/v1"})
    else:
        render.show(f"axon {number} (manifests: axon.mlos.io/v1)")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the line that makes a shell complete axon's commands and models."""
    if shell == "fish":
        render.show("# in ~/.config/fish/completions/axon.fish:")
        render.show("_AXON_COMPLETE=fish_source axon | source")
    else:
        render.show(f"# in ~/.{shell}rc:", f'eval "$(_AXON_COMPLETE={shell}_source axon)"')
