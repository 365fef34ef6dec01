# SPDX-License-Identifier: BUSL-1.1
"""What `predict` returned, as the outputs of its contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlos_core.errors import ModelFailed
from mlos_core.smi import Allocate
from mlos_core.types import Array
from mlos_plugin_python.contract import Contract
from mlos_plugin_python.values import to_array


def collect(returned: Any, contract: Contract, allocate: Allocate) -> dict[str, Array]:
    """The outputs by name.

    Raises:
        ModelFailed: they are not what the hints say.
    """
    values = _by_name(returned, contract)
    return {
        name: to_array(values[name], hint, name, allocate)
        for name, hint in contract.outputs.items()
    }


def _by_name(returned: Any, contract: Contract) -> Mapping[str, Any]:
    names = list(contract.outputs)
    match contract.shape:
        case "tuple":
            if not isinstance(returned, tuple | list) or len(returned) != len(names):
                raise _unlike(returned, f"a tuple of {len(names)}")
            return dict(zip(names, returned, strict=True))
        case "mapping":
            if not isinstance(returned, Mapping) or set(returned) != set(names):
                raise _unlike(returned, "a dict with exactly " + ", ".join(names))
            return returned
        case "fields":
            try:
                return {name: getattr(returned, name) for name in names}
            except AttributeError:
                raise _unlike(returned, "an object with " + ", ".join(names)) from None
        case "none":
            return {}
    return {names[0]: returned}


def _unlike(returned: Any, wanted: str) -> ModelFailed:
    got = type(returned).__name__
    if isinstance(returned, tuple | list):
        got += f" of {len(returned)}"
    elif isinstance(returned, Mapping):
        got += " with " + (", ".join(map(str, returned)) or "nothing")
    return ModelFailed(
        f"predict returned {got}, not {wanted}",
        hint="correct the hint in model.py, or what predict returns",
    )
