# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl status` and `stats`."""

from __future__ import annotations

import click

from mlos_core.cli import complete, render, render_stats
from mlos_core.cli.context import Context, command
from mlos_core.resources.machine import machine


@click.command()
@command
def status(context: Context) -> None:
    """Show the daemon's state, and what the machine has."""
    with context.client() as client:
        values = client.call("status")
    here = machine()
    if context.as_json:
        render.print_json({**values, "machine": here})
    else:
        render.console().print(render.status(values, here))


@click.command()
@click.argument("name", required=False, default="", shell_complete=complete.models)
@command
def stats(context: Context, name: str) -> None:
    """Show counters and latencies of all models, or of one, by version."""
    with context.client() as client:
        by_model = client.call("stats", name=name)
    if context.as_json:
        render.print_json(by_model)
    else:
        render.console().print(render_stats.table(by_model))
