# SPDX-License-Identifier: BUSL-1.1
"""The first call of a model, before anybody waits for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.smi import EngineModel, Model, TensorModel
from mlos_core.types import BYTES, DTYPES, Array, Signature, TensorSpec, check_inputs
from mlos_core.worker.checks import OutputCheck, as_error
from mlos_core.worker.joining import rows_of

log = logging.getLogger(__name__)


def zeros(spec: TensorSpec) -> Array:
    """A tensor of zeros (empty strings) that fits `spec`; unknown dimensions are 1."""
    shape = tuple(1 if size < 0 else size for size in spec.shape)
    if spec.dtype == BYTES:
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, DTYPES[spec.dtype])


def is_guesswork(signature: Signature) -> bool:
    """True if a size other than the batch is unknown: 1 may then be no size the model takes."""
    first = 1 if signature.batched else 0
    return any(size < 0 for spec in signature.inputs for size in spec.shape[first:])


def warm_up(model: Model, samples: Sequence[Mapping[str, Array]] = ()) -> None:
    """Run the samples, or one synthetic request.

    An engine model warms up in `load`. A failure on zeros counts only if they are sure to be
    a request that the model accepts; samples are.

    Raises:
        LoadFailed: the model cannot compute a request that fits its signature.
    """
    if isinstance(model, EngineModel):
        return
    if samples:
        for sample in samples:
            _run_sample(model, sample)
        return
    inputs = {spec.name: zeros(spec) for spec in model.signature.inputs if not spec.optional}
    for array in inputs.values():
        array.flags.writeable = False
    try:
        outputs = model.infer(inputs, _allocate)
    except BaseException as error:
        told = as_error(error)
        if not is_guesswork(model.signature):
            raise LoadFailed(
                f"the model fails on a request of zeros: {told.message}",
                hint="register it with warm-up off if zeros are no input it can take",
            ) from error
        log.warning("warm-up skipped, the sizes of the inputs are unknown: %s", told.message)
        return
    check_outputs(model.signature, inputs, outputs)


def _run_sample(model: TensorModel, sample: Mapping[str, Array]) -> None:
    inputs = dict(sample)
    for array in inputs.values():
        array.flags.writeable = False
    try:
        check_inputs(model.signature, inputs)
        outputs = model.infer(inputs, _allocate)
    except BaseException as error:
        raise LoadFailed(
            f"the model fails on a request to warm it with: {as_error(error).message}",
            hint="its inputs are those of --warmup-inputs, or ones that the old version answered",
        ) from error
    check_outputs(model.signature, inputs, outputs)


def check_outputs(
    signature: Signature, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> None:
    """Raise `LoadFailed` unless the outputs are what the signature announces, shapes too.

    Later calls check no shapes, which would cost time on each; a model that contradicts itself
    here never serves.
    """
    try:
        chosen = OutputCheck(signature).select(outputs, ())
    except MlosError as error:
        raise LoadFailed(error.message, hint=error.hint) from error
    rows = rows_of(inputs) if signature.batched else 0
    for spec in signature.outputs:
        array = chosen.get(spec.name)
        if array is None or not spec.shape:  # so is an unknown rank announced, too
            continue
        fits = len(array.shape) == len(spec.shape) and all(
            want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or (rows and array.shape[0] != rows):
            batch = f" for {rows} rows of input" if rows else ""
            raise LoadFailed(
                f"output {spec.name!r} has shape {list(array.shape)}{batch}, not {spec.describe()}",
                hint="the plugin does not keep the signature it announced",
            )


def _allocate(name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.empty(shape, DTYPES.get(dtype, object))
