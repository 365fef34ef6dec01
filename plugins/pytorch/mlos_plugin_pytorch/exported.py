# SPDX-License-Identifier: BUSL-1.1
"""Programs of `torch.export`: the file says everything, down to what the graph changes."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from mlos_core.errors import LoadFailed
from mlos_core.types import TensorSpec
from mlos_plugin_pytorch.blame import sentence
from mlos_plugin_pytorch.dtypes import name_of
from mlos_plugin_pytorch.last import Last, cut
from mlos_plugin_pytorch.mutation import written
from mlos_plugin_pytorch.options import Options
from mlos_plugin_pytorch.program import Argument, Program
from mlos_plugin_pytorch.results import flatten

_NUMBERS: Final = (
    ((bool, torch.SymBool), "bool"),
    ((int, torch.SymInt), "int64"),
    ((float, torch.SymFloat), "float64"),
)
_NO_PICKLES: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def open_exported(file: Path, options: Options, device: Any) -> Program:
    """The exported program in `file`.

    Raises:
        LoadFailed: it cannot be loaded, or holds pickled objects other than tensors.
    """
    try:
        with _no_pickles():
            exported = torch.export.load(str(file))
        if device.type != "cpu":
            exported = _moved(exported, device)
        module = exported.module()
    except Exception as err:
        raise LoadFailed(
            f"torch cannot load {file.name}: {sentence(err)}",
            hint="export it anew with this version of torch if another one wrote it",
        ) from err
    changed = written(exported)
    inputs, outputs = _Inputs(exported, changed), _outputs(exported)
    specs = tuple(_spec(name, value, file.name) for name, value in inputs.values.items())
    return Program(
        file.name,
        inputs.arguments(),
        lambda names: inputs.caller(module, names),
        inputs=specs,
        outputs=tuple(_spec(name, value, file.name) for name, value in outputs.items()),
        sizes=inputs.sizes,
        may_batch=one_batch([*inputs.values.values(), *outputs.values()]),
        reset=None if options.keep_state else _restorer(exported, module, changed),
        cut=(lambda: _cut(module, exported)) if device.type == "cpu" else None,
    )


def _moved(exported: Any, device: Any) -> Any:
    from torch.export.passes import move_to_device_pass  # which torch 2.5 lacks

    return move_to_device_pass(exported, device)


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Torch loads some parts of a program with pickle; then as tensors only."""
    before = os.environ.get(_NO_PICKLES)
    os.environ[_NO_PICKLES] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_PICKLES]
        else:
            os.environ[_NO_PICKLES] = before


class _Inputs:
    """The program's arguments, which may lie in tuples and dicts, in one row.

    `values` are the graph's own stand-ins: tensors without data, or symbolic numbers.
    """

    def __init__(self, exported: Any, changed: set[str]) -> None:
        self._structure = exported.call_spec.in_spec
        nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
        specs = [
            spec for spec in exported.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT
        ]  # fmt: skip
        self._fixed = {
            place: spec.arg.value
            for place, spec in enumerate(specs)
            if isinstance(spec.arg, ConstantArgument)
        }
        self._names = [spec.arg.name for spec in specs]
        self.values = {
            name: nodes[name].meta["val"]
            for place, name in enumerate(self._names)
            if place not in self._fixed
        }
        self._changed = changed
        self.sizes = _sizes(exported.example_inputs, self._names)

    def arguments(self) -> tuple[Argument, ...]:
        return tuple(
            Argument(name, _kind(value), shared=name not in self._changed)
            for name, value in self.values.items()
        )

    def caller(self, module: Any, names: tuple[str, ...]) -> Callable[..., Any]:
        """A function of the values of `names` that calls the module as it wants to be called."""
        structure, count = self._structure, len(self._names)
        flat = pytree.tree_unflatten([None] * count, structure) == ((None,) * count, {})
        if flat and not self._fixed and names == tuple(self._names):
            return module  # type: ignore[no-any-return]
        places = [self._names.index(name) for name in names]
        leaves = [self._fixed.get(place) for place in range(count)]

        def call(*values: Any) -> Any:
            for place, value in zip(places, values, strict=True):
                leaves[place] = value
            args, kwargs = pytree.tree_unflatten(leaves, structure)
            return module(*args, **kwargs)

        return call


def _kind(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return "tensor"
    return "float" if isinstance(value, torch.SymFloat) else "int"


def _sizes(example: Any, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes it was exported with."""
    if example is None:
        return {}
    leaves = pytree.tree_leaves(example)
    return {
        name: tuple(leaf.shape)
        for name, leaf in zip(names, leaves, strict=False)
        if isinstance(leaf, torch.Tensor)
    }


def _outputs(exported: Any) -> dict[str, Any]:
    """The graph's stand-ins of what comes back, under the names that it will have."""
    signature = exported.graph_signature
    (end,) = (node for node in exported.graph.nodes if node.op == "output")
    returned = [
        (spec.arg, node)
        for spec, node in zip(signature.output_specs, end.args[0], strict=True)
        if spec.kind is OutputKind.USER_OUTPUT
    ]
    leaves = [
        node.meta["val"] if isinstance(arg, TensorArgument) else getattr(arg, "value", 0)
        for arg, node in returned
    ]
    return dict(flatten(pytree.tree_unflatten(leaves, exported.call_spec.out_spec)))


def _cut(module: Any, exported: Any) -> dict[str, Last]:
    """Last operators taken out of the module, by the name of their output."""
    structure = exported.call_spec.out_spec
    places = pytree.tree_unflatten(list(range(structure.num_leaves)), structure)
    names = {place: name for name, place in flatten(places)}
    return {names[place]: last for place, last in cut(module).items()}


def _spec(name: str, value: Any, title: str) -> TensorSpec:
    if not isinstance(value, torch.Tensor):
        for kinds, dtype in _NUMBERS:
            if isinstance(value, kinds):
                return TensorSpec(name, dtype, ())
        raise LoadFailed(
            f"{name!r} of {title} is a {type(value).__name__}, which cannot be sent over a channel",
            hint="export a module that takes and returns tensors, numbers, tuples and dicts",
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, name_of(value.dtype, f"{name!r} of {title}"), shape)


def one_batch(values: Sequence[Any]) -> bool:
    """True if dimension 0 of all these is one symbol, which occurs nowhere else.

    Its limits don't count: torch writes 2 as the least size of a dimension that it was only
    asked to keep open, and takes 1.
    """
    shapes = [tuple(getattr(value, "shape", ())) for value in values]
    if not shapes or not all(shapes):
        return False
    firsts = {_symbol(first) for first, *_ in shapes}
    others = {_symbol(size) for _, *sizes in shapes for size in sizes}
    return len(firsts) == 1 and None not in firsts and not firsts & others


def _symbol(size: Any) -> str | None:
    return None if isinstance(size, int) else str(size.node.expr)


def _restorer(exported: Any, module: Any, changed: set[str]) -> Callable[[], None] | None:
    """What puts the tensors that the graph changes back to what the file says."""
    signature = exported.graph_signature
    held = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    tensors = [operator.attrgetter(held[name])(module) for name in sorted(changed & set(held))]
    if not tensors:
        return None
    first = [tensor.detach().clone() for tensor in tensors]

    def restore() -> None:
        for tensor, value in zip(tensors, first, strict=True):
            tensor.copy_(value)

    return restore
