# SPDX-License-Identifier: BUSL-1.1
"""SavedModel folders: one of their signatures is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from mlos_core.errors import LoadFailed
from mlos_plugin_tensorflow.framework import tf
from mlos_plugin_tensorflow.model import TensorFlowModel
from mlos_plugin_tensorflow.options import Options
from mlos_plugin_tensorflow.saying import first_line
from mlos_plugin_tensorflow.signature import signature_of

DEFAULT: Final = "serving_default"


def open_saved_model(folder: Path, options: Options) -> TensorFlowModel:
    """The model in `folder`.

    Raises:
        LoadFailed: TensorFlow cannot read it, or it has no such signature.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as err:
        raise LoadFailed(
            f"TensorFlow cannot load {folder.name}: {first_line(err)}",
            hint="operations of another package need the option imports, which names it",
        ) from err
    function = _choose(folder, dict(loaded.signatures), options.signature)
    inputs = function.structured_input_signature[1]
    outputs = function.structured_outputs
    takes, gives = list(inputs), list(outputs)

    def call(tensors: Any) -> list[Any]:
        results = function(**dict(zip(takes, tensors, strict=True)))
        return [results[name] for name in gives]

    signature = signature_of(inputs, outputs, call, options.batched)
    return TensorFlowModel(call, function.graph, signature, loaded)


def _choose(folder: Path, signatures: dict[str, Any], wanted: str | None) -> Any:
    names = ", ".join(signatures) or "none"
    if wanted is None and len(signatures) == 1:
        (only,) = signatures.values()
        return only
    function = signatures.get(wanted or DEFAULT)
    if function is None:
        raise LoadFailed(
            f"{folder.name} has no signature {wanted or DEFAULT!r}; it has {names}",
            hint="choose with the option signature"
            if signatures
            else "save it with tf.saved_model.save(…, signatures=…) or model.export(…)",
        )
    return function
