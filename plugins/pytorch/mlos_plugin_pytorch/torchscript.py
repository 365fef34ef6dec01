# SPDX-License-Identifier: BUSL-1.1
"""TorchScript: names and types come from the file, shapes do not.

The graph of the method that answers is read for two things that a server must know: whether
it writes into an input, and whether it leaves something behind in the module.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from mlos_core.errors import LoadFailed
from mlos_plugin_pytorch.blame import sentence
from mlos_plugin_pytorch.options import Options
from mlos_plugin_pytorch.program import Argument, Kind, Program, by_name

_KINDS: Final[dict[str, Kind]] = {
    "Tensor": "tensor",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
}
SIGNATURE: Final = "signature"
"""An extra file that an archive may have: one line, `x:float32[?,3] -> y:float32[?]`."""
_HARMLESS: Final = {"num_batches_tracked"}
"""Attributes that only training writes, in a branch that is not taken."""


def open_torchscript(file: Path, options: Options, device: Any) -> Program:
    """The TorchScript module in `file`.

    Raises:
        LoadFailed: it cannot be loaded, has no such method, or would let requests influence
            one another.
    """
    beside = {SIGNATURE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = torch.jit.load(str(file), map_location=device, _extra_files=beside)
        except Exception as err:
            raise LoadFailed(f"torch cannot load {file.name}: {sentence(err)}") from err
    module.eval()
    method = method_of(module, options.method, file.name)
    graph = method.inlined_graph
    reset = None if options.reset is None else method_of(module, options.reset, file.name)
    written = () if options.keep_state else attributes_written(graph)
    if written and reset is None:
        raise _stateful(file.name, written, module)
    arguments = _arguments(method, graph, file.name, stateful=bool(written or options.keep_state))
    said = _said(beside[SIGNATURE], file.name)
    return Program(file.name, arguments, _binder(method), said=said, reset=reset)


def _said(text: str | bytes, title: str) -> dict[str, str]:
    """What the file says of inputs and outputs, in the notation of the options."""
    line = text.decode(errors="replace") if isinstance(text, bytes) else text
    if not line:
        return {}
    inputs, arrow, outputs = line.partition("->")
    if not arrow:
        raise LoadFailed(f"the {SIGNATURE} in {title} is none: {line[:100]!r}")
    return {"inputs": inputs, "outputs": outputs}


def method_of(module: Any, name: str, title: str) -> Any:
    """The module's method called `name`.

    Raises:
        LoadFailed: it has none.
    """
    names = module._c._method_names()
    if name not in names:
        raise LoadFailed(f"{title} has no method {name!r}", hint="it has " + ", ".join(names))
    return getattr(module, name)


def _stateful(title: str, written: tuple[str, ...], module: Any) -> LoadFailed:
    names = [name for name in module._c._method_names() if "reset" in name]
    clear = f"reset={names[0]}" if names else "reset=METHOD"
    return LoadFailed(
        f"{title} remembers things from one call to the next (it sets {', '.join(written)}), "
        "so requests would influence one another",
        hint=f"name the method that makes it forget, {clear}, or set keep_state=true",
    )


# --- what the graph does ---------------------------------------------------------------------


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


@functools.cache
def _places_changed(schema: str) -> tuple[int, ...]:
    """Which arguments an operator with this schema changes in place."""
    if schema == "(no schema)":
        return ()
    arguments = enumerate(torch._C.parse_schema(schema).arguments)
    return tuple(place for place, one in arguments if one.alias_info and one.alias_info.is_write)


def _changed(node: Any) -> list[Any]:
    """The values that `node` changes in place."""
    places = _places_changed(node.schema())
    if not places:
        return []
    values = list(node.inputs())
    return [values[place] for place in places]


def _attribute(value: Any) -> str | None:
    """The attribute of the module that `value` is, if it is one."""
    node = value.node()
    return node.s("name") if node.kind() == "prim::GetAttr" else None


def attributes_written(graph: Any) -> tuple[str, ...]:
    """The attributes of the module that the graph sets or changes in place."""
    names: dict[str | None, None] = {}
    for node in _nodes(graph):
        if node.kind() == "prim::SetAttr":
            names[node.s("name")] = None
        names.update((_attribute(value), None) for value in _changed(node))
    return tuple(name for name in names if name is not None and name not in _HARMLESS)


def written_values(graph: Any) -> list[Any]:
    """The values that the graph changes in place, what only training changes left out."""
    every = (value for node in _nodes(graph) for value in _changed(node))
    return [value for value in every if _attribute(value) not in _HARMLESS]


# --- arguments -------------------------------------------------------------------------------


def _arguments(method: Any, graph: Any, title: str, *, stateful: bool) -> tuple[Argument, ...]:
    written = () if stateful else written_values(graph)
    aliases: Any = graph.alias_db() if written else None

    def untouched(value: Any) -> bool:
        return not any(aliases.may_contain_alias(value, other) for other in written)

    given = zip(method.schema.arguments[1:], list(graph.inputs())[1:], strict=True)
    found = [_argument(one, not stateful and untouched(value), title) for one, value in given]
    return tuple(one for one in found if one is not None)


def _argument(argument: Any, shared: bool, title: str) -> Argument | None:
    optional = argument.has_default_value()
    kind = str(argument.type)
    if kind.startswith("Optional["):
        kind = kind.removeprefix("Optional[").removesuffix("]")
    if kind not in _KINDS:
        if optional:
            return None
        raise LoadFailed(
            f"{title} takes {argument.name!r} as {argument.type}, which no request can carry",
            hint="wrap the module in one that takes tensors, numbers and texts",
        )
    return Argument(argument.name, _KINDS[kind], optional, shared)


def _binder(method: Any) -> Callable[[tuple[str, ...]], Callable[..., Any]]:
    needed = tuple(one.name for one in method.schema.arguments[1:] if not one.has_default_value())

    def bind(names: tuple[str, ...]) -> Callable[..., Any]:
        return method if names == needed else by_name(method, names)

    return bind
