# SPDX-License-Identifier: BUSL-1.1
"""Calling `setup`: with what the user gave as options, and with what it asks of the runtime."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.smi import ModelPackage, parse_options
from mlos_plugin_python.blame import not_loaded

OFFERED: Final = ("device", "threads", "folder")
"""What `setup` gets if it has parameters of these names."""


def create(
    kind: type, package: ModelPackage, device: str, options: Mapping[str, Any], folder: Path
) -> Any:
    """An instance of the class, set up.

    Raises:
        LoadFailed: an option is unknown, missing or of another type, or the model raised.
    """
    setup = getattr(kind, "setup", None)
    parameters = _parameters(setup)
    offered = {"device": device, "threads": package.threads, "folder": folder}
    if device != "cpu" and "device" not in parameters:
        raise LoadFailed(
            f"the model cannot use the device {device!r}",
            hint="register it with device cpu, or let setup take a parameter `device`",
        )
    given = {name: value for name, value in offered.items() if name in parameters}
    given |= _options(setup, parameters, options)
    try:
        model = kind()
        if setup is not None:
            model.setup(**given)
    except BaseException as err:
        raise not_loaded(err, folder, "setup") from err
    return model


def _parameters(setup: Callable[..., Any] | None) -> dict[str, inspect.Parameter]:
    if setup is None:
        return {}
    return dict(list(inspect.signature(setup).parameters.items())[1:])


def _options(
    setup: Callable[..., Any] | None,
    parameters: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The options, converted to the hints of `setup`; text may be what a command line gave."""
    fields: list[Any] = []
    hints = _hints(setup)
    for name, parameter in parameters.items():
        if name in OFFERED or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            return dict(options)
        kind = hints.get(name, Any)
        needed = parameter.default is parameter.empty
        fields.append((name, kind) if needed else (name, kind, msgspec.UNSET))
    try:
        wanted = msgspec.defstruct("Setup", sorted(fields, key=len))
        values = parse_options(wanted, options, "model's setup")
    except TypeError as err:  # a hint that msgspec does not know
        raise LoadFailed(f"the options of setup cannot be read: {err}") from err
    except LoadFailed as err:
        raise err if err.hint else LoadFailed(err.message, hint="see setup in model.py") from None
    every = {name: getattr(values, name) for name in wanted.__struct_fields__}
    return {name: value for name, value in every.items() if value is not msgspec.UNSET}


def _hints(setup: Callable[..., Any] | None) -> dict[str, Any]:
    try:
        return typing.get_type_hints(setup) if setup is not None else {}
    except Exception as err:
        raise LoadFailed(f"the hints of setup cannot be read: {err}") from err
