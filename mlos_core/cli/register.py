# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl register` and `unregister`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from mlos_core.cli import complete, render
from mlos_core.cli.context import Context, command
from mlos_core.cli.inputs import pairs
from mlos_core.cli.kinds import CPUS, SECONDS, SIZE
from mlos_core.cli.models import change, version_option
from mlos_core.cli.packages import is_package, of_package
from mlos_core.errors import InvalidInput

_MANIFEST: Final = "manifest.yaml"
_FILE: Final = click.Path(path_type=Path)
_RUNNING: Final = (
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda:N, cuda or auto."),
    click.option("--instances", default=1, show_default=True, help="How many workers."),
    click.option("--threads", type=int, help="Threads of one computation; 0: the plugin's own."),
    click.option("--cpus", type=CPUS, metavar="LIST", help="Processors, as 0-3,8."),
    click.option("--numa-node", type=int, help="Where its memory lies; -1: anywhere."),
    click.option("--python", type=_FILE, help="Host it with this venv, or interpreter."),
)
_LIFE: Final = (
    click.option(
        "--load",
        type=click.Choice(["now", "demand"]),
        help="When it is loaded: at once (now), or by its first request.",
    ),
    click.option(
        "--keep-alive",
        type=SECONDS,
        help="Unload it after so long without a request: 300, 5m, 1h; -1: never.",
    ),
    click.option("--memory", type=SIZE, help="What it takes: 512M, 2GiB; default: measured."),
    click.option("--warmup/--no-warmup", default=True, help="Run it once before it serves."),
    click.option("--warmup-inputs", type=_FILE, help="An .npz of inputs to warm it with."),
)
_BATCHING: Final = (
    click.option("--max-batch-size", type=int, help="Rows joined at most (1)."),
    click.option("--max-queue-delay-us", type=int, help="Longest wait for companions (0)."),
    click.option(
        "--preferred-batch-size",
        "preferred_batch_sizes",
        type=int,
        multiple=True,
        help="Run a batch of so many rows at once; repeatable.",
    ),
    click.option("--max-queue-size", type=int, help="Requests that wait; 0: four batches."),
    click.option(
        "--when-full",
        type=click.Choice(["wait", "reject"]),
        help="Beyond that: leave them in their channels (wait), or refuse.",
    ),
    click.option("--queue-timeout-us", type=int, help="Refuse what waited longer; 0: never."),
    click.option("--priority-levels", type=int, help="Levels of `priority`; 1 is served first."),
    click.option("--default-priority", type=int, help="Level of a request without; 0: the last."),
    click.option(
        "--preserve-ordering",
        is_flag=True,
        default=None,
        help="Answers of a channel in the order of its requests.",
    ),
)
_BATCH_KEYS: Final = (
    "max_batch_size",
    "max_queue_delay_us",
    "preferred_batch_sizes",
    "max_queue_size",
    "when_full",
    "queue_timeout_us",
    "priority_levels",
    "default_priority",
    "preserve_ordering",
)


def _with(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """Add these options, in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


@click.command()
@click.argument("name", metavar="[NAME]")
@click.argument("model", required=False)
@click.option("--file", help="Which of a package's models (default: the main one).")
@click.option("--plugin", default="", help="Which plugin loads it (default: by its format).")
@click.option("--version", default="", help="The model's version.")
@click.option(
    "--add", is_flag=True, default=None, help="Serve this version beside those there are."
)
@click.option("--replace", is_flag=True, help="Replace the model of that name.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the plugin.")
@click.option("--manifest", type=_FILE, help="The package's manifest.")
@_with(_RUNNING, _LIFE, _BATCHING)
@click.option("--wait/--no-wait", default=True, help="Return once it is ready.")
@click.option("--timeout", default=120.0, type=SECONDS, show_default=True, help="How long to wait.")
@command
def register(context: Context, name: str, model: str | None, **given: Any) -> None:
    """Load MODEL and serve it as NAME, or under its own name.

    MODEL is a file, a folder, or a package of axon's, namespace/name[@version], which is
    installed first if it is not there: mlosctl register pypi/magika
    """
    told = _model(name, model, given.pop("manifest"), given.pop("file"), quiet=context.as_json)
    told["plugin"] = given["plugin"] or told.get("plugin", "")
    told["version"] = given["version"] or told.get("version", "")
    given |= told
    batch = {key: given.pop(key) for key in _BATCH_KEYS}
    for key in ("python", "warmup_inputs"):
        # Not resolved: a venv's interpreter is a link whose own place says which venv it is.
        given[key] = str(given[key].absolute()) if given[key] else None
    # What is not given is the service's to say.
    params = dict(
        {key: value for key, value in given.items() if value is not None or key == "manifest"},
        options=pairs(given.pop("options"), "--option"),
        batch={key: value for key, value in batch.items() if value not in (None, ())},
    )
    change(context, "register", f"register {params['name']}", **params)


def _model(
    name: str, model: str | None, manifest: Path | None, file: str | None, *, quiet: bool
) -> dict[str, Any]:
    """What the words on the command line name: name, path and manifest of a model."""
    word, name = (name, "") if model is None else (model, name)
    if is_package(word):
        told = of_package(word, file, quiet=quiet)
        told["name"] = name or told["name"]
        if manifest:
            told["manifest"] = read_manifest(manifest, needed=True)
        return told
    if file is not None:
        raise InvalidInput("--file chooses among a package's models", hint="give the file's path")
    path = Path(word).absolute()
    content = read_manifest(manifest or path / _MANIFEST, needed=bool(manifest))
    return {"name": name or _own_name(path, content), "path": str(path), "manifest": content}


def _own_name(path: Path, manifest: dict[str, Any] | None) -> str:
    """What its manifest calls a model, or else what its file is called."""
    about = (manifest or {}).get("metadata")
    stated = about.get("name") if isinstance(about, dict) else None
    return stated if isinstance(stated, str) and stated else path.stem


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
@version_option
@command
def unregister(context: Context, name: str, version: str) -> None:
    """Drain a model, or one version of it, and forget it."""
    with context.client() as client:
        given = {"version": version} if version else {}
        info = client.call("unregister", patience=None, name=name, **given)
    if context.as_json:
        render.print_json(info)
    else:
        click.echo(f"{name}{f'@{version}' * bool(version)} is unregistered")
