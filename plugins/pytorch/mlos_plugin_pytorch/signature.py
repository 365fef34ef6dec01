# SPDX-License-Identifier: BUSL-1.1
"""A model's signature, from the file, from what the user says, and from trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.types import BYTES, Signature, TensorSpec
from mlos_plugin_pytorch.notation import Stated, checked, parse
from mlos_plugin_pytorch.options import Options
from mlos_plugin_pytorch.program import SCALARS, Argument, Program
from mlos_plugin_pytorch.trial import Run, Trial

# --- inputs ----------------------------------------------------------------------------------


def inputs_of(
    program: Program, options: Options, manifest: Mapping[str, Any] | None
) -> tuple[Stated, ...]:
    """The inputs, in the order of the program's arguments.

    Numbers that must be given need not be stated; optional arguments are offered only if they
    are.

    Raises:
        LoadFailed: something is missing, unknown, or of a kind that the argument is not.
    """
    if program.inputs is not None:
        if options.inputs is not None:
            raise LoadFailed(
                f"{program.title} states its inputs itself", hint="leave the option inputs out"
            )
        return tuple(map(Stated, program.inputs))
    source, stated = _stated(program, options.inputs, "inputs", manifest)
    if program.arguments is None:
        _check_some(program, stated)
        return stated
    for one in stated:
        if program.argument(one.spec.name) is None:
            known = ", ".join(argument.name for argument in program.arguments)
            hint = f"it takes {known or 'nothing'}"
            raise LoadFailed(f"{source} names {one.spec.name!r}, which is no argument", hint=hint)
    by_name = {one.spec.name: one for one in stated}
    _check_tensors(program, by_name)
    return tuple(
        _input(argument, by_name.get(argument.name))
        for argument in program.arguments
        if argument.name in by_name or not argument.optional
    )


def _stated(
    program: Program, text: str | None, side: str, manifest: Mapping[str, Any] | None
) -> tuple[str, tuple[Stated, ...]]:
    """Who states the `inputs` or `outputs`, and what: the user, the file, or the manifest."""
    if text is not None:
        return f"the option {side}", parse(text, f"the option {side}")
    if side in program.said:
        source = f"the signature in {program.title}"
        return source, parse(program.said[side], source)
    return "the manifest", _of_manifest(side, manifest or {})


def _of_manifest(side: str, manifest: Mapping[str, Any]) -> tuple[Stated, ...]:
    """Those that it gives a shape; one of unknown rank says too little."""
    try:
        told = ((manifest.get("spec") or {}).get("io") or {}).get(side) or []
        known = [one for one in told if one.get("shape") is not None]
        tensors = [(str(o["name"]), str(o["dtype"]), tuple(map(int, o["shape"]))) for o in known]
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise LoadFailed(f"the manifest's spec.io.{side} cannot be read: {err!r}") from err
    return tuple(Stated(checked(*tensor, "the manifest")) for tensor in tensors)


def _check_some(program: Program, stated: Sequence[Stated]) -> None:
    if not stated:
        raise LoadFailed(
            f"{program.title} takes any arguments", hint='say which: inputs="x:float32[?,3]"'
        )


def _check_tensors(program: Program, stated: Mapping[str, Stated]) -> None:
    needed = [one for one in program.arguments or () if not one.optional]
    missing = [one.name for one in needed if one.kind == "tensor" and one.name not in stated]
    if missing:
        words = [
            f"{one.name}:float32[?,?]" if one.kind == "tensor" else
            f"{one.name}:{SCALARS[one.kind][0]}[]"
            for one in needed
        ]  # fmt: skip
        raise LoadFailed(
            f"{program.title} does not say the dtypes and shapes of {', '.join(missing)}",
            hint=f'say them, ? for any size: inputs="{", ".join(words)}"',
        )


def _input(argument: Argument, stated: Stated | None) -> Stated:
    if stated is None:
        return Stated(TensorSpec(argument.name, SCALARS[argument.kind][0], ()))
    spec, default = stated.spec, stated.default
    if argument.kind == "tensor":
        if spec.dtype == BYTES:
            raise LoadFailed(f"the argument {spec.name!r} is a tensor, which holds no texts")
        if default is not None:
            raise LoadFailed(f"the tensor {spec.name!r} cannot have a default")
    else:
        _check_scalar(argument, spec, default)
    optional = argument.optional or default is not None
    return Stated(msgspec.structs.replace(spec, optional=optional), default)


def _check_scalar(argument: Argument, spec: TensorSpec, default: Any) -> None:
    dtypes = SCALARS[argument.kind]
    if spec.dtype not in dtypes or spec.shape not in ((), (1,)):
        raise LoadFailed(
            f"the argument {spec.name!r} is a Python {argument.kind}, not {spec.describe()}",
            hint=f"write {spec.name}:{dtypes[0]}[]",
        )
    kinds = {"int": int, "float": (int, float), "bool": bool, "str": object}
    if default is not None and not isinstance(default, kinds[argument.kind]):  # type: ignore[arg-type]
        raise LoadFailed(f"{default!r} is no default for {spec.name!r}, a Python {argument.kind}")


# --- outputs and batch -----------------------------------------------------------------------


def settle(
    program: Program,
    inputs: Sequence[Stated],
    run: Run,
    options: Options,
    manifest: Mapping[str, Any] | None,
) -> Signature:
    """The whole signature; `run` is called a few times where that tells more.

    Raises:
        LoadFailed: the outputs cannot be found out, or are not what was stated.
    """
    specs = tuple(one.spec for one in inputs)
    trial = Trial(run, [spec for spec in specs if not spec.optional], program.sizes)
    outputs = _outputs(program, trial, options, manifest)
    batched = _batched(program, specs, outputs, trial, options)
    return Signature(specs, outputs, batched=batched)


def _outputs(
    program: Program,
    trial: Trial,
    options: Options,
    manifest: Mapping[str, Any] | None,
) -> tuple[TensorSpec, ...]:
    own = program.outputs
    _, found = _stated(program, options.outputs, "outputs", None if own else manifest)
    stated = tuple(one.spec for one in found)
    if own is not None:
        return _renamed(program, own, stated)
    if stated:
        return stated
    try:
        return trial.outputs()
    except LoadFailed:
        raise
    except MlosError as err:
        raise LoadFailed(
            f"the outputs cannot be found out by a trial: {err.message}",
            hint='say them, outputs="y:float32[?,10]", or give the inputs fixed sizes',
        ) from err


def _renamed(
    program: Program, own: tuple[TensorSpec, ...], stated: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    if not stated:
        return own
    if [spec.dtype for spec in stated] != [spec.dtype for spec in own]:
        said = ", ".join(f"{spec.name}:{spec.describe()}" for spec in own)
        raise LoadFailed(f"the option outputs does not fit {program.title}", hint=f"it has {said}")
    return tuple(
        msgspec.structs.replace(spec, name=other.name)
        for spec, other in zip(own, stated, strict=True)
    )


def _batched(
    program: Program,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    trial: Trial,
    options: Options,
) -> bool:
    fixed = next((s.name for s in (*inputs, *outputs) if s.shape[:1] != (-1,)), None)
    if options.batched:
        if fixed is not None:
            raise LoadFailed(
                f"the model cannot be batched: dimension 0 of {fixed!r} is fixed or missing",
                hint="leave the option batched out",
            )
        return True
    if options.batched is False or options.keep_state or not program.may_batch:
        return False
    if fixed is not None or not inputs or not outputs:
        return False
    return trial.rows_are_apart()
