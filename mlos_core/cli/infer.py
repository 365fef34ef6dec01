# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl infer`: one request from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from mlos_core.cli import complete, render
from mlos_core.cli.context import Context, command
from mlos_core.cli.inputs import gather, pairs
from mlos_core.cli.progress import watching
from mlos_core.client import Model, Result
from mlos_core.errors import InvalidInput
from mlos_core.types import Array, check_inputs

_SLOTS = 4
_ARENA = 1 << 20


@click.command()
@click.argument("model", shell_complete=complete.models)
@click.argument("inputs", nargs=-1)
@click.option(
    "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="For the model."
)
@click.option(
    "--version",
    default="",
    shell_complete=complete.versions,
    help="Which version; default: as the model's route says.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait.")
@command
def infer(
    context: Context,
    model: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    version: str,
    output: Path | None,
    timeout: float,
) -> None:
    """Ask MODEL once, through shared memory.

    INPUTS are JSON ('{"x": [1, 2]}'), NAME=VALUE, NAME=@FILE.npy, @FILE.npz, @FILE.json, or
    - for the standard input.
    """
    with context.client() as client:
        handle = client.model(
            model, version=version, slots=_SLOTS, request_bytes=_ARENA, timeout=timeout
        )
        with watching(context, client, f"{model} gets ready", model):
            signature = handle.signature
        arrays = gather(signature, inputs, sys.stdin.buffer.read)
        check_inputs(signature, arrays)
        given = pairs(parameters, "--parameter")
        if signature.streaming:
            _stream(context, handle, arrays, given, output)
            return
        with handle.infer(arrays, parameters=given) as result:
            _show(context, handle, result, output)


def _stream(
    context: Context,
    handle: Model,
    arrays: Mapping[str, Array],
    parameters: dict[str, Any],
    output: Path | None,
) -> None:
    with handle.stream(arrays, parameters=parameters) as stream:
        _print_events(stream, as_json=context.as_json)
        with stream.result as result:
            _show(context, handle, result, output, streamed=True)


def _print_events(events: Iterable[Any], *, as_json: bool) -> None:
    open_line = False
    for event in events:
        if as_json:
            render.print_json_line({"event": event})
            continue
        text = event.get("text") if isinstance(event, dict) else event
        if isinstance(text, str):
            click.echo(text, nl=False)
            open_line = True
        else:
            click.echo(msgspec.json.encode(event, enc_hook=str).decode())
    if open_line:
        click.echo()


def _show(
    context: Context,
    model: Model,
    result: Result,
    output: Path | None,
    *,
    streamed: bool = False,
) -> None:
    if output is not None:
        _save(output, result)
    if context.as_json:
        document = {
            "version": model.version,
            "outputs": {
                name: {"shape": array.shape, "data": render.jsonable(array)}
                for name, array in result.items()
            },
            "parameters": dict(result.parameters),
        }
        (render.print_json_line if streamed else render.print_json)(document)
        return
    if result:
        render.console().print(render.outputs(result))
    for name, value in result.parameters.items():
        click.echo(f"{name}: {value}")
    if output is not None:
        click.echo(f"written to {output}")


def _save(path: Path, outputs: Mapping[str, Array]) -> None:
    try:
        with path.open("wb") as file:
            np.savez(file, **{name: _storable(array) for name, array in outputs.items()})
    except OSError as err:
        raise InvalidInput(f"{path}: {err.strerror}", hint="choose another --output") from None


def _storable(array: Array) -> Any:
    # Objects would be pickled, which nobody should have to load.
    return array.astype(np.bytes_) if array.dtype.kind == "O" else array
