# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl plugins`: list them, begin one, check one, replace one while it serves."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import numpy as np
from rich.console import Console

from mlos_core.cli import private, render, scaffold
from mlos_core.cli.canary import canary_options
from mlos_core.cli.context import Context, command
from mlos_core.cli.inputs import pairs
from mlos_core.cli.kinds import SECONDS
from mlos_core.conformance import Outcome, Target, check_plugin
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound
from mlos_core.smi import ENTRY_POINT_GROUP
from mlos_core.types import Array

QUICK: Final = {
    "MLOS_HTTP": "false",
    "MLOS_RESTART_INITIAL": "0.01",
    "MLOS_RESTART_MAX": "0.1",
    "MLOS_HEALTHY_AFTER": "0.1",
}
"""Of the daemon that a check runs: it is to see crashes, and not to wait after them."""


def _names() -> list[str]:
    """Plugins of this interpreter."""
    return sorted({p.name for p in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)})


def _installed(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in _names() if name.startswith(incomplete)]


@click.group(invoke_without_command=True)
@click.option("--socket", metavar="PATH", help="The daemon's control socket.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(context: click.Context, socket: str | None, as_json: bool) -> None:
    """List the installed plugins; make, check or replace one."""
    context.obj = Context.of(context, socket, as_json)
    if context.invoked_subcommand is None:
        context.invoke(list_, traceback=False)


@plugins.command("list")
@click.option("--traceback", is_flag=True, help="Where the import of the broken ones failed, too.")
@command
def list_(context: Context, traceback: bool) -> None:
    """List the installed plugins, the broken ones with the reason."""
    with context.client() as client:
        statuses = client.call("plugins", patience=None)
    if context.as_json:
        render.print_json(statuses)
        return
    out = render.console()
    out.print(render.plugins(statuses))
    broken = [status for status in statuses if status["traceback"]]
    if broken and not traceback:
        out.print("mlosctl plugins list --traceback shows where the import fails", style="dim")
    for status in broken if traceback else ():
        out.print(f"{status['name']}: {status['traceback']}", style="dim", markup=False)


@plugins.command()
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="The folder to make.")
@command
def new(context: Context, name: str, path: Path | None) -> None:
    """Write a plugin NAME to start from: it installs, and passes its tests and `check`."""
    if name in _names():
        raise AlreadyExists(
            f"a plugin {name!r} is installed, and two of one name are a conflict",
            hint="choose another name, or uninstall that one",
        )
    made = scaffold.write(name, path)
    if context.as_json:
        render.print_json({"name": name, "path": str(made)})
        return
    click.echo(f"{made} is a plugin; next:\n")
    click.echo(f"  pip install -e '{made}[test]'\n  mlosctl plugins check {name}\n  pytest {made}")


# --- check ------------------------------------------------------------------------------------


@plugins.command()
@click.argument("name", shell_complete=_installed)
@click.option("--model", type=click.Path(path_type=Path), help="Instead of the plugin's example.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the plugin.")
@click.option("--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="Of requests.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda:N.")
@click.option("--inputs", type=click.Path(path_type=Path), help="An .npz of inputs it answers.")
@click.option("--plugin-python", default="", metavar="VENV", help="The plugin's interpreter.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds for each request.")
@command
def check(context: Context, name: str, **given: Any) -> None:
    """Run the conformance suite on the plugin NAME, with a daemon of its own."""
    model = given["model"]
    if model is not None and not model.exists():
        raise InvalidInput(f"there is no file or folder {model}", hint="check --model")
    if not given["plugin_python"]:
        _check_installed(name)
    target = Target(
        plugin=name,
        model=model.absolute() if model is not None else None,
        options=pairs(given["options"], "--option"),
        parameters=pairs(given["parameters"], "--parameter"),
        device=given["device"],
        python=str(Path(given["plugin_python"]).absolute()) if given["plugin_python"] else "",
        inputs=_read_inputs(given["inputs"]),
        timeout=given["timeout"],
    )
    outcomes = list(_watched(_run(target), name))
    counts = {kind: sum(o.outcome == kind for o in outcomes) for kind in ("pass", "fail", "skip")}
    if context.as_json:
        render.print_json({"plugin": name, **counts, "checks": msgspec.to_builtins(outcomes)})
    else:
        render.console().print(render.checks(msgspec.to_builtins(outcomes)))
        click.echo(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if counts["fail"]:
        sys.exit(1)


def _check_installed(name: str) -> None:
    names = _names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise NotFound(
            f"no plugin {name!r} is installed in this environment ({sys.prefix})",
            hint=f"did you mean {near[0]!r}?" if near else "pip install it here first",
        )


def _run(target: Target) -> Iterator[Outcome]:
    with private.temporary_folder("mlos-check-") as folder:
        (folder / "tmp").mkdir()
        with private.running(folder, **QUICK, TMPDIR=str(folder / "tmp")) as daemon:
            yield from check_plugin(target, daemon)


def _watched(outcomes: Iterator[Outcome], name: str) -> Iterator[Outcome]:
    """The outcomes; on a terminal the last one stays in sight while the next one is awaited."""
    with Console(stderr=True).status(f"checking {name}") as status:
        for outcome in outcomes:
            status.update(f"{outcome.group}: {outcome.name}: {outcome.outcome}")
            yield outcome


def _read_inputs(path: Path | None) -> dict[str, Array] | None:
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, AttributeError) as err:
        raise InvalidInput(f"{path} is no .npz file: {err}", hint="see numpy.savez") from None


# --- swap -------------------------------------------------------------------------------------


@plugins.command()
@click.argument("name", shell_complete=_installed)
@click.option("--python", default="", metavar="VENV", help="The interpreter its models run in.")
@canary_options
@click.option("--timeout", default=300.0, type=SECONDS, show_default=True, help="How long to wait.")
@command
def swap(context: Context, name: str, python: str, timeout: float, **given: float) -> None:
    """Let the installed version of the plugin NAME take over from the one that runs.

    New workers load and warm the plugin's models beside the old ones and then take their
    channels over. No request is lost; if one does not load, nothing changes.
    """
    interpreter = str(Path(python).absolute()) if python else ""
    with context.client() as client, _busy(f"swapping the plugin {name}"):
        done = client.call(
            "swap_plugin",
            patience=timeout + given["canary"] + 10.0,
            name=name,
            python=interpreter,
            timeout=timeout,
            **given,
        )
    if context.as_json:
        render.print_json(done)
        return
    models = ", ".join(done["models"]) or "no model uses it"
    versions = f"{done['from_version'] or '?'} -> {done['to_version']}"
    click.echo(f"{name} {versions} in {done['seconds']:.2f} s: {models}")


@contextlib.contextmanager
def _busy(what: str) -> Iterator[None]:
    """Something to look at meanwhile, where somebody looks."""
    with Console(stderr=True).status(what):
        yield
