# SPDX-License-Identifier: BUSL-1.1
"""What is installed: `axon list`, `axon verify`, `axon uninstall`."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.filesize import decimal

from axon_client import render
from axon_client.catalog import find
from axon_client.commands.options import installed_names, json_option
from axon_client.errors import IntegrityError
from axon_client.store import Store


@click.command("list")
@click.option(
    "-f", "--format", "style", type=click.Choice(["default", "names", "json"]), default="default"
)
@json_option
def list_models(style: str, as_json: bool) -> None:
    """List installed models."""
    models = Store().installed()
    if as_json or style == "json":
        render.show_json([render.summary(model) for model in models])
    elif style == "names":
        render.show(*(str(model.spec) for model in models))
    else:
        render.show_list(models)


@click.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1, shell_complete=installed_names)
@json_option
def verify(specs: Sequence[str], as_json: bool) -> None:
    """Hash every file again, of the named models or of all."""
    store = Store()
    installed = store.installed()
    results = []
    for model in [find(spec, installed) for spec in specs] or installed:
        with render.progress_bars(not as_json) as progress:
            problems = store.verify(model, progress)
        results.append({"package": str(model.spec), "ok": not problems, "problems": problems})
        if not as_json:
            render.show_problems(model, problems)
    bad = [str(result["package"]) for result in results if not result["ok"]]
    if as_json:
        render.show_json({"ok": not bad, "models": results})
        click.get_current_context().exit(IntegrityError.exit_code if bad else 0)
    if bad:
        raise IntegrityError(
            f"damaged: {', '.join(bad)}", hint=f"heal with: axon install {bad[0]} --replace"
        )


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, shell_complete=installed_names)
@json_option
def uninstall(specs: Sequence[str], as_json: bool) -> None:
    """Remove models, and the files that no other model uses."""
    store = Store()
    installed = store.installed()
    removed = []
    for model in [find(spec, installed) for spec in specs]:
        freed = store.uninstall(model)
        removed.append({"package": str(model.spec), "files": freed.blobs, "bytes": freed.bytes})
        if not as_json:
            render.show(f"removed {model.spec}: {decimal(freed.bytes)} freed")
    if as_json:
        render.show_json(removed)
