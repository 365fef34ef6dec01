# SPDX-License-Identifier: BUSL-1.1
"""The last operator of an exported graph, taken out of it and given the client's memory.

Torch allocates what a graph returns. The usual ends of a model, though, have a variant that
writes where it is told, with the same kernel and so the same bits: such an operator is cut
off the graph and run behind it, once the memory of its output is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import msgspec
import torch

from mlos_plugin_pytorch.mutation import writes

aten = torch.ops.aten


class Last(msgspec.Struct, frozen=True):
    """An operator that is still to be run on what the graph returned.

    `shape(x)` is the shape of its result, and `run(x, out)` writes it.
    """

    shape: Callable[[Any], tuple[int, ...]]
    run: Callable[[Any, Any], Any]


def _same(x: Any) -> tuple[int, ...]:
    return tuple(x.shape)


def _pointwise(out_variant: Any) -> Callable[..., Last | None]:
    def make(*rest: Any) -> Last | None:
        return None if rest else Last(_same, lambda x, out: out_variant(x, out=out))

    return make


def _softmax(out_variant: Any) -> Callable[..., Last | None]:
    def make(dim: int, dtype: Any = None) -> Last | None:
        if dtype is not None:
            return None
        return Last(_same, lambda x, out: out_variant(x, dim, False, out=out))

    return make


def _linear(weight: Any, bias: Any = None) -> Last | None:
    if bias is None:
        return None
    turned, width = weight.t(), weight.shape[0]
    return Last(lambda x: (x.shape[0], width), lambda x, out: torch.addmm(bias, x, turned, out=out))


_LASTS: Final[dict[Any, Callable[..., Last | None]]] = {
    aten.sigmoid.default: _pointwise(aten.sigmoid.out),
    aten.tanh.default: _pointwise(aten.tanh.out),
    aten.softmax.int: _softmax(aten._softmax.out),
    aten.log_softmax.int: _softmax(aten._log_softmax.out),
    aten.linear.default: _linear,
}


def cut(module: Any) -> dict[int, Last]:
    """Take last operators out of the module's graph; by the place of their output."""
    nodes = list(module.graph.nodes)
    end = nodes[-1]
    returned = list(end.args[0])
    found: dict[int, Last] = {}
    for place, node in enumerate(returned):
        last = _last(module, node, nodes) if returned.count(node) == 1 else None
        if last is not None:
            found[place] = last
            returned[place] = node.args[0]
            end.args = (tuple(returned),)
            module.graph.erase_node(node)
    if found:
        module.recompile()
    return found


def _last(module: Any, node: Any, nodes: list[Any]) -> Last | None:
    make = _LASTS.get(getattr(node, "target", None))
    if make is None or node.kwargs or len(node.users) != 1:
        return None
    # Behind it nothing may write: it would then run on something else.
    if any(map(writes, nodes[nodes.index(node) :])):
        return None
    first, *rest = node.args
    if node.target is aten.linear.default and first.meta["val"].dim() != 2:
        return None
    if not all(_is_constant(one) for one in rest):
        return None
    return make(*(_constant(module, one) for one in rest))


def _is_constant(argument: Any) -> bool:
    return not isinstance(argument, torch.fx.Node) or argument.op == "get_attr"


def _constant(module: Any, argument: Any) -> Any:
    if isinstance(argument, torch.fx.Node):
        return operator.attrgetter(argument.target)(module)
    return argument
