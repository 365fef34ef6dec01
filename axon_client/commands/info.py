# SPDX-License-Identifier: BUSL-1.1
"""`axon info`."""

from __future__ import annotations

import click

from axon_client import render
from axon_client.catalog import find
from axon_client.commands.options import installed_argument, json_option
from axon_client.store import Store


@click.command()
@installed_argument
@json_option
def info(spec: str, as_json: bool) -> None:
    """Show an installed model: its manifest, its files, their inputs and outputs."""
    model = find(spec, Store().installed())
    if as_json:
        render.show_json(render.details(model))
    else:
        render.show_details(model)
