# SPDX-License-Identifier: BUSL-1.1
"""Opening an onnxruntime session the way the options ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from mlos_core.errors import LoadFailed
from mlos_plugin_onnx.options import Options

_ERRORS_ONLY: Final = 3
_LEVELS: Final = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "layout": ort.GraphOptimizationLevel.ORT_ENABLE_LAYOUT,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_MODES: Final = {
    "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
    "parallel": ort.ExecutionMode.ORT_PARALLEL,
}
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"


def open_session(file: Path, device: str, options: Options) -> Any:
    """An `InferenceSession` of the model in `file`.

    Raises:
        LoadFailed: the file is no model, or a provider is missing.
    """
    providers = providers_for(device, options.providers)
    try:
        session = ort.InferenceSession(str(file), _session_options(options), providers=providers)
    except Exception as err:
        raise LoadFailed(
            f"onnxruntime cannot load {file.name}: {err}",
            hint="its external data, if it has any, must lie in the model's own folder",
        ) from err
    _check_providers(session, providers)
    return session


def _session_options(options: Options) -> Any:
    given = ort.SessionOptions()
    given.log_severity_level = _ERRORS_ONLY
    given.graph_optimization_level = _LEVELS[options.graph_optimization_level]
    given.execution_mode = _MODES[options.execution_mode]
    if options.intra_op_num_threads is not None:
        given.intra_op_num_threads = options.intra_op_num_threads
    if options.inter_op_num_threads is not None:
        given.inter_op_num_threads = options.inter_op_num_threads
    if options.allow_spinning is not None:
        spin = "1" if options.allow_spinning else "0"
        given.add_session_config_entry("session.intra_op.allow_spinning", spin)
        given.add_session_config_entry("session.inter_op.allow_spinning", spin)
    return given


def providers_for(device: str, wanted: tuple[str, ...] | None) -> list[Any]:
    """The providers to ask for, each known to be in this onnxruntime.

    Raises:
        LoadFailed: one is not, or the device is none that onnxruntime knows.
    """
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise LoadFailed(f"the onnx plugin knows no device {device!r}", hint="use cpu or cuda:0")
    names = wanted or ((_CUDA, _CPU) if kind == "cuda" else (_CPU,))
    available = ort.get_available_providers()
    for name in names:
        if name not in available:
            raise LoadFailed(
                f"this onnxruntime has no provider {name!r}",
                hint=f"it has {', '.join(available)}; onnxruntime-gpu brings CUDA",
            )
    chosen = {_CUDA: (_CUDA, {"device_id": index or "0"})}
    return [chosen.get(name, name) if kind == "cuda" else name for name in names]


def _check_providers(session: Any, asked: list[Any]) -> None:
    """Onnxruntime drops a provider that fails to start; whoever asked for it wants to know."""
    first = asked[0][0] if isinstance(asked[0], tuple) else asked[0]
    used = session.get_providers()
    if first not in used:
        raise LoadFailed(
            f"the provider {first!r} did not start; onnxruntime fell back to {', '.join(used)}",
            hint="check the driver and the libraries it needs, or register with device cpu",
        )
