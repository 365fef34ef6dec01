# SPDX-License-Identifier: BUSL-1.1
"""Opening an onnxruntime session the way the options ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from mlos_core.errors import LoadFailed
from mlos_plugin_onnx.options import Options
from mlos_plugin_onnx.providers import check_started, providers_for

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


def open_session(
    file: Path, device: str, options: Options, threads: int | None, profile: Path | None
) -> Any:
    """An `InferenceSession` of the model in `file`.

    Args:
        threads: inside one operator; None leaves it to onnxruntime.
        profile: how the name of the trace begins; None for no trace.

    Raises:
        LoadFailed: the file is no model, or a provider is missing.
    """
    providers = providers_for(device, options.providers)
    settings = _settings(options, threads, profile)
    try:
        # enable_fallback: without it, a provider that fails is an error.
        session = ort.InferenceSession(
            str(file), settings, providers=list(providers), enable_fallback=0
        )
    except Exception as err:
        raise LoadFailed(f"onnxruntime cannot load {file.name}: {err}") from err
    check_started(providers, session.get_providers())
    return session


def _settings(options: Options, threads: int | None, profile: Path | None) -> Any:
    given = ort.SessionOptions()
    given.log_severity_level = _ERRORS_ONLY
    given.graph_optimization_level = _LEVELS[options.graph_optimization_level]
    given.execution_mode = _MODES[options.execution_mode]
    if threads is not None:
        given.intra_op_num_threads = threads
    if options.inter_op_num_threads is not None:
        given.inter_op_num_threads = options.inter_op_num_threads
    if options.allow_spinning is not None:
        spin = "1" if options.allow_spinning else "0"
        given.add_session_config_entry("session.intra_op.allow_spinning", spin)
        given.add_session_config_entry("session.inter_op.allow_spinning", spin)
    if profile is not None:
        given.enable_profiling = True
        given.profile_file_prefix = str(profile)
    return given


def threads_for(chosen: int | None, package: int, usable: int, all_cores: int) -> int | None:
    """How many threads an operator may use; None for onnxruntime's own choice.

    Left alone, onnxruntime starts a thread for every core and ties it there, also to cores
    that this process was told to leave alone; a number, whichever, keeps it from that.

    Args:
        chosen: the plugin's option.
        package: what the model was registered with; 0 for nothing.
        usable: how many processors this process may use.
        all_cores: how many there are.
    """
    if chosen is not None:
        return chosen
    if package:
        return package
    return usable if usable < all_cores else None


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
