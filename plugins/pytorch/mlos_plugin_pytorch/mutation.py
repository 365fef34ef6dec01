# SPDX-License-Identifier: BUSL-1.1
"""Which of its inputs and buffers an exported graph writes into.

A graph as exported keeps the operators that work in place, and a write may go through a view
or through an operator that gave its own input back. Torch's fake tensors, which have shapes
and storages but no data, know; so the graph is run with them, once, if it writes at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch

log = logging.getLogger(__name__)


def written(exported: Any) -> set[str]:
    """The names of the placeholders that the graph of this `ExportedProgram` writes into.

    All of them where that cannot be found out.
    """
    signature = exported.graph_signature
    announced = {*signature.user_inputs_to_mutate.values()}
    mutated = set(signature.buffers_to_mutate.values())
    announced |= {name for name, to in signature.inputs_to_buffers.items() if to in mutated}
    if not any(writes(node) for node in exported.graph.nodes):
        return announced
    places = [node for node in exported.graph.nodes if node.op == "placeholder"]
    try:
        return announced | _seen(exported.graph_module, places)
    except Exception as err:
        log.info("a graph that writes in place is taken to write everywhere: %s", err)
        return {node.name for node in places}


def writes(node: Any) -> bool:
    """True for an operator that changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _seen(graph: Any, places: list[Any]) -> set[str]:
    values = [node.meta["val"] for node in places]
    fakes = [value for value in values if isinstance(value, torch.Tensor)]
    with fakes[0].fake_mode, torch.no_grad():
        watch = _Watch(graph)
        watch.run(*values)
    return {
        node.name
        for node, value in zip(places, values, strict=True)
        if isinstance(value, torch.Tensor) and _storage(value) in watch.storages
    }


def _storage(tensor: Any) -> Any:
    return tensor.untyped_storage()._cdata


class _Watch(torch.fx.Interpreter):  # type: ignore[misc]
    """Runs a graph and notes the storages that are written to."""

    def __init__(self, graph: Any) -> None:
        super().__init__(graph)
        self.storages: set[Any] = set()

    def run_node(self, n: Any) -> Any:
        result = super().run_node(n)
        if writes(n):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            given = zip(n.target._schema.arguments, args, strict=False)
            named = {argument.name: value for argument, value in given} | kwargs
            for argument in n.target._schema.arguments:
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self.storages.update(map(_storage, _tensors(named.get(argument.name))))
        return result


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
