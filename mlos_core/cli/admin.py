# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl status`, `models`, `register`, `unregister`, `plugins` and `stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlos_core.cli import complete, render
from mlos_core.cli.context import Context, command
from mlos_core.cli.inputs import pairs
from mlos_core.errors import InvalidInput

_MANIFEST = "manifest.yaml"


@click.command()
@command
def status(context: Context) -> None:
    """Show the daemon's state."""
    with context.client() as client:
        values = client.call("status")
    if context.as_json:
        render.print_json(values)
    else:
        render.console().print(render.status(values))


@click.command()
@click.argument("name", required=False, shell_complete=complete.models)
@command
def models(context: Context, name: str | None) -> None:
    """List the registered models, or show one."""
    with context.client() as client:
        infos = [client.call("model", name=name)] if name else client.call("models")
    if context.as_json:
        render.print_json(infos[0] if name else infos)
    elif infos:
        render.console().print(render.models(infos))
    else:
        click.echo("no models; register one with `mlosctl register NAME PATH`")


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--plugin", default="", help="Which plugin loads it (default: by its format).")
@click.option("--version", default="", help="The model's version.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda:N.")
@click.option("--instances", default=1, show_default=True, help="How many workers.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the plugin.")
@click.option("--max-batch-size", default=1, show_default=True, help="Rows joined at most.")
@click.option("--max-queue-delay-us", default=0, show_default=True, help="Wait for more rows.")
@click.option("--manifest", type=click.Path(path_type=Path), help="The package's manifest.")
@click.option("--warmup/--no-warmup", default=True, help="Run it once before it serves.")
@click.option("--replace", is_flag=True, help="Replace the model of that name.")
@click.option("--wait/--no-wait", default=True, help="Return once it is ready.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait.")
@command
def register(context: Context, name: str, path: Path, **given: Any) -> None:
    """Load the model at PATH and serve it as NAME."""
    manifest_path, timeout = given.pop("manifest"), given.pop("timeout")
    batch = {key: given.pop(key) for key in ("max_batch_size", "max_queue_delay_us")}
    path = path.absolute()
    params = dict(
        given,
        name=name,
        path=str(path),
        options=pairs(given.pop("options"), "--option"),
        batch=batch,
        manifest=read_manifest(manifest_path or path / _MANIFEST, needed=bool(manifest_path)),
    )
    with context.client() as client:
        # The service's own deadline is the better error; ours only guards against silence.
        info = client.call("register", patience=timeout + 10.0, timeout=timeout, **params)
    if context.as_json:
        render.print_json(info)
    else:
        render.console().print(render.models([info]))


def read_manifest(path: Path, *, needed: bool) -> dict[str, Any] | None:
    """The manifest as plain values.

    Raises:
        InvalidInput: it is no YAML mapping, or needed and missing.
    """
    import msgspec
    import yaml

    if not needed and not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as err:
        raise InvalidInput(f"{path}: {err.strerror}", hint="check --manifest") from None
    except yaml.YAMLError as err:
        raise InvalidInput(f"{path} is no YAML: {err}", hint="correct the manifest") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} holds no mapping", hint="correct the manifest")
    plain: dict[str, Any] = msgspec.to_builtins(content, str_keys=True)
    return plain


@click.command()
@click.argument("name", shell_complete=complete.models)
@command
def unregister(context: Context, name: str) -> None:
    """Drain a model and forget it."""
    with context.client() as client:
        info = client.call("unregister", patience=None, name=name)
    if context.as_json:
        render.print_json(info)
    else:
        click.echo(f"{name} is unregistered")


@click.command()
@command
def plugins(context: Context) -> None:
    """List the installed plugins, the broken ones with the reason."""
    with context.client() as client:
        statuses = client.call("plugins", patience=None)
    if context.as_json:
        render.print_json(statuses)
        return
    out = render.console()
    out.print(render.plugins(statuses))
    for broken in statuses:
        if broken["traceback"]:
            out.print(f"{broken['name']}: {broken['traceback']}", style="dim", markup=False)


@click.command()
@click.argument("name", required=False, default="", shell_complete=complete.models)
@command
def stats(context: Context, name: str) -> None:
    """Show counters and mean times of all models, or of one."""
    with context.client() as client:
        by_model = client.call("stats", name=name)
    if context.as_json:
        render.print_json(by_model)
    else:
        render.console().print(render.stats(by_model))
