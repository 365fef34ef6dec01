# SPDX-License-Identifier: BUSL-1.1
"""`axon register`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from axon_client import render
from axon_client.commands.options import installed_argument, json_option


@click.command()
@installed_argument
@click.option("--install", is_flag=True, help="Install it first, if it is not installed.")
@click.option("--name", default="", help="What clients call it; the package's name by default.")
@click.option("--file", "file", help="Which of the package's models.")
@click.option("--instances", type=click.IntRange(1), default=1, show_default=True)
@click.option("--device", default="", help="cpu or cuda:N.")
@click.option("--plugin", default="", help="Which plugin loads it; by its format by default.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="For the plugin; repeatable."
)
@click.option("--replace", is_flag=True, help="Take the place of a model of that name.")
@click.option("--socket", help="The daemon's socket.", type=click.Path())
@json_option
def register(
    spec: str,
    install: bool,
    name: str,
    file: str | None,
    instances: int,
    device: str,
    plugin: str,
    options: Sequence[str],
    replace: bool,
    socket: str | None,
    as_json: bool,
) -> None:
    """Hand an installed model to the daemon."""
    from axon_client.obtain import obtain
    from axon_client.register import connect_to
    from axon_client.register import register as register_model

    chosen = _pairs(options)
    with render.progress_bars(not as_json) as progress:
        model = obtain(spec, install=install, progress=progress)
    answer = register_model(
        model,
        lambda: connect_to(socket),
        name=name,
        file=file,
        instances=instances,
        device=device,
        plugin=plugin,
        replace=replace,
        options=chosen,
    )
    if as_json:
        render.show_json(answer)
    else:
        state = answer.get("state", "registered")
        render.show(f"{answer.get('name', name or model.spec.name)}: {state}")


def _pairs(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words; a value is JSON, or else a text."""
    import msgspec

    from mlos_core.errors import InvalidInput

    chosen: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--option {word}", hint="write --option KEY=VALUE")
        try:
            chosen[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            chosen[key] = text
    return chosen
