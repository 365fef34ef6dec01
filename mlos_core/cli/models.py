# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl models`: what is served, which versions of it, and who gets which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from mlos_core.cli import complete, render, render_models
from mlos_core.cli.canary import canary_options
from mlos_core.cli.context import Context, command
from mlos_core.cli.group import noun
from mlos_core.cli.inputs import pairs
from mlos_core.cli.kinds import SECONDS, WEIGHT
from mlos_core.cli.progress import watching
from mlos_core.errors import InvalidInput

_MARGIN: Final = 30.0  # the service's own deadline is the better error; ours guards against silence

model_argument = click.argument("model", shell_complete=complete.models)
version_option = click.option(
    "--version",
    default="",
    shell_complete=complete.versions,
    help="Which version; default: the one the route favours.",
)
timeout_option = click.option(
    "--timeout", default=300.0, type=SECONDS, show_default=True, help="How long to wait."
)


@click.command("list")
@command
def list_(context: Context) -> None:
    """List the registered models and their versions."""
    with context.client() as client:
        infos = client.call("models")
    if context.as_json:
        render.print_json(infos)
    elif infos:
        out = render.console()
        out.print(render_models.table(infos, out.width))
    else:
        click.echo("no models; register one with `mlosctl register NAME PATH`")


@noun("models", list_)
def models() -> None:
    """List the registered models; show, swap, route, load or unload one.

    `mlosctl models` lists them, `mlosctl models NAME` shows one.
    """


@models.command()
@click.argument("name", shell_complete=complete.models)
@command
def show(context: Context, name: str) -> None:
    """Show a model: its route, its versions, its workers."""
    with context.client() as client:
        info = client.call("model", name=name)
    if context.as_json:
        render.print_json(info)
        return
    for part in render_models.detail(info):
        render.console().print(part)


@models.command()
@model_argument
@click.option("--path", type=click.Path(path_type=Path), help="The new file or folder.")
@version_option
@click.option("--new-version", default="", help="What the new one is called; default: as before.")
@click.option("--plugin", default="", help="Which plugin loads it; default: as before.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the plugin.")
@click.option(
    "--warmup-inputs", type=click.Path(path_type=Path), help="An .npz of inputs to warm it with."
)
@canary_options
@click.option("--allow-new-signature", is_flag=True, help="Even if inputs or outputs differ.")
@timeout_option
@command
def swap(context: Context, model: str, **given: Any) -> None:
    """Replace what MODEL serves while it is asked, without one failed request.

    The new one is loaded and warmed beside the old one and takes over once it has proven itself;
    if it fails, the old one goes on untouched. Without --path the same files are loaded anew.
    """
    for key in ("path", "warmup_inputs"):
        given[key] = str(given[key].absolute()) if given[key] else ""
    options = given.pop("options")
    given["options"] = pairs(options, "--option") if options else None
    change(context, "swap_model", f"swap {model}", name=model, **given)


@models.command()
@model_argument
@version_option
@timeout_option
@command
def rollback(context: Context, model: str, **given: Any) -> None:
    """Serve again what was served before the last swap, while MODEL is asked."""
    change(context, "rollback_model", f"roll {model} back", name=model, **given)


@models.command()
@model_argument
@click.argument("versions", nargs=-1, type=WEIGHT, shell_complete=complete.versions)
@click.option("--latest", is_flag=True, help="Whatever is the highest version.")
@command
def route(
    context: Context, model: str, versions: tuple[tuple[str, float | None], ...], latest: bool
) -> None:
    """Say which version of MODEL a request gets that names none.

    One VERSION pins it; V=WEIGHT for several versions shares the requests out; --latest goes
    back to the highest version. Without any of these the route is shown.
    """
    with context.client() as client:
        if versions or latest:
            info = client.call("route_model", name=model, **_route(versions, latest=latest))
        else:
            info = client.call("model", name=model)
    if context.as_json:
        render.print_json(info["route"])
    else:
        click.echo(f"{model}: {render_models.route_text(info)}")


def _route(versions: Sequence[tuple[str, float | None]], *, latest: bool) -> dict[str, Any]:
    names = [version for version, _ in versions]
    if versions and latest:
        raise InvalidInput("both versions and --latest are given", hint="give one of them")
    if len(set(names)) < len(names):
        raise InvalidInput("a version is named twice", hint="give each one weight")
    if len(versions) == 1 and versions[0][1] is None:
        return {"version": names[0]}
    if any(weight is None for _, weight in versions):
        raise InvalidInput(
            "several versions need a weight each", hint=f"write e.g. {names[0]}=90 {names[1]}=10"
        )
    return {"weights": dict(versions)} if versions else {}


@models.command()
@model_argument
@version_option
@click.option("--wait/--no-wait", default=True, help="Return once it is ready.")
@timeout_option
@command
def load(context: Context, model: str, **given: Any) -> None:
    """Load MODEL now, instead of at its next request."""
    change(context, "load_model", f"load {model}", name=model, **given)


@models.command()
@model_argument
@version_option
@command
def unload(context: Context, model: str, version: str) -> None:
    """Give MODEL's memory back; it stays registered, and its next request loads it again."""
    change(context, "unload_model", f"unload {model}", name=model, version=version, timeout=None)


def change(
    context: Context, method: str, what: str, *, timeout: float | None, **given: Any
) -> None:
    """Call a method that may take long, and show the model's versions as they are then."""
    if timeout is not None:
        given["timeout"] = timeout
    patience = None if timeout is None else timeout + _MARGIN + given.get("canary", 0.0)
    with context.client() as client, watching(context, client, what, given["name"]):
        info = client.call(method, patience=patience, **given)
    if context.as_json:
        render.print_json(info)
    else:
        out = render.console()
        out.print(render_models.table([info], out.width))
