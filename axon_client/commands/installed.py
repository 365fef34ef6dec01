# SPDX-License-Identifier: BUSL-1.1
"""What is installed: `axon list`, `axon verify`, `axon uninstall`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from axon_client import render
from axon_client.catalog import find
from axon_client.commands.options import installed_names, json_option
from axon_client.errors import IntegrityError
from axon_client.store import Store
from mlos_core.errors import InvalidInput

if TYPE_CHECKING:
    from axon_client.models import InstalledModel
    from axon_client.trust import Verdict


@click.command("list")
@click.option(
    "-f", "--format", "style", type=click.Choice(["default", "names", "json"]), default="default"
)
@json_option
def list_models(style: str, as_json: bool) -> None:
    """List installed models, one's own and those of the stores below."""
    store = Store()
    models = store.installed()
    if as_json or style == "json":
        render.show_json([_about(store, model) for model in models])
    elif style == "names":
        render.show(*(str(model.spec) for model in models))
    elif any(store.layer_of(model) != store.home for model in models):
        rows = [_row(_about(store, model)) for model in models]
        render.show_table(("package", "format", "size", "store"), rows, ("size",))
    else:
        render.show_list(models)


def _about(store: Store, model: InstalledModel) -> dict[str, Any]:
    return render.summary(model) | {"store": str(store.layer_of(model))}


def _row(about: dict[str, Any]) -> tuple[str, ...]:
    format = about.get("format", "damaged")
    return about["package"], format, render.size(about.get("size", -1)), about["store"]


@click.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1, shell_complete=installed_names)
@click.option("--signatures", is_flag=True, help="A key you trust must have signed each, too.")
@json_option
def verify(specs: Sequence[str], signatures: bool, as_json: bool) -> None:
    """Hash every file again, of the named models or of all."""
    store = Store()
    installed = store.installed()
    results, bad, refused = [], [], []
    for model in [find(spec, installed) for spec in specs] or installed:
        with render.progress_bars(not as_json) as progress:
            problems = store.verify(model, progress)
        about = {"package": str(model.spec), "ok": not problems, "problems": problems}
        if problems:
            bad.append(str(model.spec))
        if not as_json:
            render.show_problems(model, problems)
        verdict = _verdict(model) if signatures else None
        if verdict:
            about |= {"ok": not problems and verdict.state == "trusted", "signature": verdict}
            refused += [verdict.error()] if verdict.state != "trusted" else []
            if not as_json:
                render.show(f"{model.spec}: {verdict.message or _signer(verdict)}")
        results.append(about)
    damaged = IntegrityError(
        f"damaged: {', '.join(bad)}", hint=f"heal with: axon install {' '.join(bad[:1])} --replace"
    )
    errors = [damaged] if bad else refused
    if not results and not as_json:
        render.show_list([])
    if as_json:
        render.show_json({"ok": not errors, "models": results})
        click.get_current_context().exit(errors[0].exit_code if errors else 0)
    if errors:
        raise errors[0]


def _signer(verdict: Verdict) -> str:
    return f"signed by {verdict.name or verdict.key}"


def _verdict(model: InstalledModel) -> Verdict | None:
    """Who vouches for a model; None if its manifest is damaged, which is told already."""
    from axon_client import trust

    try:
        return trust.check_installed(model)
    except InvalidInput:
        return None


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, shell_complete=installed_names)
@click.option("--force", is_flag=True, help="Even if another package or a daemon uses it.")
@click.option("--socket", help="The daemon's socket.", type=click.Path())
@json_option
def uninstall(specs: Sequence[str], force: bool, socket: str | None, as_json: bool) -> None:
    """Remove models, and the files that no other model uses."""
    from axon_client import removal
    from axon_client.installation import explained

    store = Store()
    installed = store.installed()
    models = list(dict.fromkeys(find(spec, installed) for spec in specs))
    if not force:
        removal.check(store, models, installed, socket)
    removed = []
    for model in models:
        with explained(store.home):
            freed = store.uninstall(model)
        removed.append({"package": str(model.spec), "files": freed.blobs, "bytes": freed.bytes})
        if not as_json:
            render.show(f"removed {model.spec}: {render.size(freed.bytes)} freed")
    if as_json:
        render.show_json(removed)
