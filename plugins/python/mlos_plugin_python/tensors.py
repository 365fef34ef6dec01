# SPDX-License-Identifier: BUSL-1.1
"""A `predict` that answers a request, or a batch of them, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlos_core.errors import InvalidInput, ModelFailed
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import Array
from mlos_plugin_python import code
from mlos_plugin_python.blame import failed, log
from mlos_plugin_python.contract import Contract
from mlos_plugin_python.outputs import collect
from mlos_plugin_python.values import to_python


class PredictModel(TensorModel):
    """The user's object behind the tensor interface."""

    def __init__(self, model: Any, contract: Contract, file: Path) -> None:
        self.signature = contract.signature
        self._model = model
        self._contract = contract
        self._file = file

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """Call `predict`; an optional input that is missing takes its default there."""
        contract = self._contract
        given = arguments(batch, contract)
        rows = _rows(batch) if contract.batched else -1
        try:
            returned = self._model.predict(**given)
        except BaseException as err:
            raise failed(err, self._file.parent) from err
        outputs = collect(returned, contract, allocate)
        if rows >= 0:
            _check_rows(outputs, rows)
        return outputs

    def close(self) -> None:
        """Let the object go, by its own `close` if it has one."""
        close(self._model, self._file)
        self._model = None


def arguments(batch: Mapping[str, Array], contract: Contract) -> dict[str, Any]:
    """The keyword arguments of `predict`."""
    return {name: to_python(array, contract.inputs[name], name) for name, array in batch.items()}


def close(model: Any, file: Path) -> None:
    """Call the object's `close`, if any, and forget its modules."""
    own = getattr(model, "close", None)
    try:
        if callable(own):
            own()
    except Exception:
        log.exception("close raised")
    finally:
        code.forget(file)


def _rows(batch: Mapping[str, Array]) -> int:
    sizes = {array.shape[0] for array in batch.values()}
    if len(sizes) > 1:
        raise InvalidInput(
            "the inputs have different numbers of rows",
            hint="dimension 0 of every input is the batch",
        )
    return sizes.pop() if sizes else -1


def _check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[0] != rows:
            raise ModelFailed(
                f"predict gave {array.shape[0]} rows of {name!r} for {rows} rows of input",
                hint="a batched predict returns a row for each that it gets",
            )
