# SPDX-License-Identifier: BUSL-1.1
"""`axon register`."""

from __future__ import annotations

import click

from axon_client import render
from axon_client.catalog import find
from axon_client.commands.options import installed_argument, json_option
from axon_client.register import connect_to
from axon_client.register import register as register_model
from axon_client.store import Store


@click.command()
@installed_argument
@click.option("--name", default="", help="What clients call it; the package's name by default.")
@click.option("--file", "file", help="Which of the package's models.")
@click.option("--instances", type=click.IntRange(1), default=1, show_default=True)
@click.option("--device", default="", help="cpu or cuda:N.")
@click.option("--plugin", default="", help="Which plugin loads it; by its format by default.")
@click.option("--replace", is_flag=True, help="Take the place of a model of that name.")
@click.option("--socket", help="The daemon's socket.", type=click.Path())
@json_option
def register(
    spec: str,
    name: str,
    file: str | None,
    instances: int,
    device: str,
    plugin: str,
    replace: bool,
    socket: str | None,
    as_json: bool,
) -> None:
    """Hand an installed model to the daemon."""
    model = find(spec, Store().installed())
    answer = register_model(
        model,
        lambda: connect_to(socket),
        name=name,
        file=file,
        instances=instances,
        device=device,
        plugin=plugin,
        replace=replace,
    )
    if as_json:
        render.show_json(answer)
    else:
        state = answer.get("state", "registered")
        render.show(f"{answer.get('name', name or model.spec.name)}: {state}")
