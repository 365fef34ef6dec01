# SPDX-License-Identifier: BUSL-1.1
"""Whether a graph may keep what it is given beyond the call.

An input may be read in the client's memory only if nothing refers to it afterwards. A
variable that is assigned an input takes over its buffer, and so may tables, queues and the
like: a graph with any operation that has a state, but for those known to leave inputs alone,
gets copies. So does one with operations that write into what they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from tensorflow.python.framework import op_def_registry

_HARMLESS: Final = re.compile(
    r"VarHandleOp|ReadVariableOp|ResourceGather(Nd)?|VarIsInitializedOp|Placeholder|NoOp"
    r"|(Stateful)?PartitionedCall|(Stateless)?(If|While|Case)|Assert|Print(V2)?"
    r"|HashTableV2|MutableHashTableV2|LookupTable(Find|Size|Export)V2"
    r"|Random\w+|Multinomial|Truncated\w+|ParameterizedTruncatedNormal"
    r"|StatefulRandom\w+|RngReadAndSkip|RngSkip"
)


def keeps_inputs(graph: Any) -> bool:
    """True unless every operation of the `tf.Graph`, and of its functions, is harmless."""
    try:
        graph_def = graph.as_graph_def()
    except ValueError:  # larger than a protocol buffer may be
        return True
    functions = {function.signature.name for function in graph_def.library.function}
    operations = {node.op for node in graph_def.node}
    for function in graph_def.library.function:
        operations.update(node.op for node in function.node_def)
    return bool(suspects(operations - functions))


def suspects(operations: Iterable[str]) -> list[str]:
    """Those of the operations' names that may hold an input, or write into it."""
    return sorted(name for name in operations if not _is_harmless(name))


def _is_harmless(name: str) -> bool:
    if name.startswith("Inplace"):
        return False
    if _HARMLESS.fullmatch(name):
        return True
    known = op_def_registry.get(name)
    return known is not None and not known.is_stateful
