# SPDX-License-Identifier: BUSL-1.1
"""Opening a `.tflite` file, and finding the tensors of the signature that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from mlos_core.errors import LoadFailed
from mlos_plugin_tensorflow.litert.framework import Interpreter
from mlos_plugin_tensorflow.litert.model import LiteRtModel
from mlos_plugin_tensorflow.litert.options import Options
from mlos_plugin_tensorflow.litert.signature import Details, signature_of

DEFAULT: Final = "serving_default"


def open_model(file: Path, options: Options, threads: int) -> LiteRtModel:
    """The model in `file`; its bytes are mapped, so that workers share them.

    Raises:
        LoadFailed: LiteRT cannot read it, or it has no such signature.
    """
    try:
        interpreter = Interpreter(
            model_path=str(file), num_threads=options.num_threads or threads or None
        )
        interpreter.allocate_tensors()
    except Exception as err:
        raise _refused(file, err) from err
    inputs, outputs = _tensors(interpreter, file, options.signature)
    signature = signature_of(inputs, outputs, options.batched)
    return LiteRtModel(
        interpreter,
        signature,
        [int(details["index"]) for details in inputs.values()],
        [int(details["index"]) for details in outputs.values()],
        options.keep_state,
    )


def _tensors(
    interpreter: Any, file: Path, wanted: str | None
) -> tuple[dict[str, Details], dict[str, Details]]:
    signatures = list(interpreter.get_signature_list())
    if not signatures and wanted is None:
        return _by_name(interpreter.get_input_details()), _by_name(interpreter.get_output_details())
    name = wanted or (signatures[0] if len(signatures) == 1 else DEFAULT)
    if name not in signatures:
        raise LoadFailed(
            f"{file.name} has no signature {name!r}; it has {', '.join(signatures) or 'none'}",
            hint="choose with the option signature" if signatures else "leave the option out",
        )
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    if not _are_the_models_own(interpreter, inputs, outputs):
        raise LoadFailed(
            f"the signature {name!r} of {file.name} is not that of its main graph",
            hint="convert the function that it names to a file of its own",
        )
    return inputs, outputs


def _are_the_models_own(
    interpreter: Any, inputs: dict[str, Details], outputs: dict[str, Details]
) -> bool:
    """Tensors are numbered in each graph of a file; the interpreter runs the first graph."""

    def known(details: Any) -> set[tuple[str, int]]:
        return {(each["name"], int(each["index"])) for each in details}

    return known(inputs.values()) == known(interpreter.get_input_details()) and known(
        outputs.values()
    ) <= known(interpreter.get_output_details())


def _by_name(every: list[Details]) -> dict[str, Details]:
    return {details["name"]: details for details in every}


def _refused(file: Path, error: Exception) -> LoadFailed:
    said = " ".join(str(error).split())
    if "Select TensorFlow op" in said or "FlexDelegate" in said or "Flex" in said:
        return LoadFailed(
            f"{file.name} has operations of TensorFlow itself, which LiteRT has not",
            hint="convert it with built-in operations only, or serve the SavedModel",
        )
    return LoadFailed(f"LiteRT cannot load {file.name}: {said}")
