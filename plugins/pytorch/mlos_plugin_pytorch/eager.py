# SPDX-License-Identifier: BUSL-1.1
"""Weights without a program: the module is built by code that the user names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pickle
import sys
import typing
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch

from mlos_core.errors import LoadFailed
from mlos_plugin_pytorch.blame import sentence
from mlos_plugin_pytorch.files import inside
from mlos_plugin_pytorch.options import Options
from mlos_plugin_pytorch.program import Argument, Kind, Program, by_name

_KINDS: Final[dict[Any, Kind]] = {int: "int", float: "float", bool: "bool", str: "str"}
_FORM: Final = "module=PACKAGE.MODULE:NAME, or module=FILE.py:NAME for a file beside the weights"


def open_eager(file: Path, options: Options, device: Any, *, pickled: bool) -> Program:
    """A module of the user's, with the weights in `file`.

    Raises:
        LoadFailed: the code fails, or the weights do not fit the module.
    """
    module = build(file, options)
    load_weights(module, file, options, pickled=pickled)
    module.to(device).eval()
    call = module if options.method == "forward" else _method(module, options.method)
    reset = None if options.reset is None else _method(module, options.reset)
    shared = options.copy_inputs is False
    arguments = _arguments(call if call is not module else module.forward, shared)
    return Program(file.name, arguments, lambda names: by_name(call, names), reset=reset)


# --- the code --------------------------------------------------------------------------------


def build(file: Path, options: Options) -> Any:
    """What the option `module` makes.

    Raises:
        LoadFailed: the option is missing, the code cannot be imported, or it makes no module.
    """
    if options.module is None:
        raise LoadFailed(f"{file.name} holds weights but no program", hint=f"say {_FORM}")
    where, colon, name = options.module.partition(":")
    if not (where and colon and name):
        raise LoadFailed(
            f"module={options.module!r} names no class or function", hint=f"say {_FORM}"
        )
    try:
        code = _from_file(file.parent, where) if where.endswith(".py") else _imported(where)
        factory = reduce(getattr, name.split("."), code)
        module = factory(**options.arguments)
    except LoadFailed:
        raise
    except Exception as err:
        text = f"{type(err).__name__}: {sentence(err)}"
        raise LoadFailed(f"module={options.module!r} cannot be built: {text}") from err
    if not isinstance(module, torch.nn.Module):
        raise LoadFailed(
            f"{options.module!r} made a {type(module).__name__}, not a torch.nn.Module"
        )
    return module


def _imported(name: str) -> Any:
    return importlib.import_module(name)


def _from_file(folder: Path, name: str) -> Any:
    path = inside(folder, name, hint="the file with the code lies beside the weights")
    folder_name = str(folder.resolve())
    if folder_name not in sys.path:
        sys.path.append(folder_name)  # what it imports may lie beside it, too
    spec = importlib.util.spec_from_file_location(f"mlos_pytorch_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LoadFailed(f"{path} is no Python file")
    code = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = code  # dataclasses, for one, look themselves up there
    spec.loader.exec_module(code)
    return code


# --- the weights -----------------------------------------------------------------------------


def load_weights(module: Any, file: Path, options: Options, *, pickled: bool) -> None:
    """Fill the module's parameters and buffers; every one must be there, and none too many."""
    try:
        if pickled:
            module.load_state_dict(_unpickled(file, options.key))
        else:
            safetensors.torch.load_model(module, file)
    except LoadFailed:
        raise
    except Exception as err:
        lines = " ".join(line.strip() for line in str(err).splitlines() if line.strip())
        raise LoadFailed(
            f"the weights in {file.name} do not fit {options.module}: {_short(lines)}"
        ) from err


def _unpickled(file: Path, key: str | None) -> Mapping[str, Any]:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise LoadFailed(
            f"{file.name} holds more than tensors: {sentence(err)}",
            hint="save module.state_dict() instead of the module, best with safetensors",
        ) from err
    except Exception as err:
        raise LoadFailed(f"{file.name} cannot be read: {sentence(err)}") from err
    keys = ", ".join(map(str, held)) if isinstance(held, Mapping) else ""
    if key is not None:
        if not isinstance(held, Mapping) or key not in held:
            raise LoadFailed(f"{file.name} has no part {key!r}", hint=f"it has {_short(keys)}")
        held = held[key]
    if not isinstance(held, Mapping) or not all(map(torch.is_tensor, held.values())):
        hint = f"choose a part with the option key: {_short(keys)}" if keys else ""
        raise LoadFailed(f"{file.name} holds no state dict", hint=hint)
    return held


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + " …"


# --- the arguments ---------------------------------------------------------------------------


def _method(module: Any, name: str) -> Any:
    method = getattr(module, name, None)
    if not callable(method):
        raise LoadFailed(f"{type(module).__name__} has no method {name!r}")
    return method


def _arguments(function: Any, shared: bool) -> tuple[Argument, ...] | None:
    """The function's parameters; None if it takes any names. Code may do anything with a
    tensor, so that it gets the client's memory only if the user says that it may."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # annotations may name what is not there at run time
        hints = {}
    return tuple(
        Argument(
            one.name,
            _KINDS.get(hints.get(one.name), "tensor"),
            optional=one.default is not one.empty,
            shared=shared,
        )
        for one in parameters
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    )
