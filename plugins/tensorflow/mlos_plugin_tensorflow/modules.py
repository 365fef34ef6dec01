# SPDX-License-Identifier: BUSL-1.1
"""Code that a user names at registration; it must be installed, never part of the model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from mlos_core.errors import LoadFailed


def import_all(names: Iterable[str]) -> None:
    """Import modules for what they register: operations, layers.

    Raises:
        LoadFailed: one is not installed, or does not import.
    """
    for name in names:
        _import(name)


def find_builder(text: str) -> Callable[..., Any]:
    """The callable that `package.module:factory` names.

    Raises:
        LoadFailed: there is none.
    """
    module_name, colon, path = text.partition(":")
    if not (module_name and colon and path):
        raise LoadFailed(
            f"the option builder cannot be read: {text!r}", hint="write it as package.module:name"
        )
    found: Any = _import(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise LoadFailed(f"{module_name} has no function or class {path!r}")
    builder: Callable[..., Any] = found
    return builder


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise LoadFailed(
            f"the module {name!r} cannot be imported: no module named {err.name!r}",
            hint="install it where this plugin is installed",
        ) from err
    except Exception as err:
        raise LoadFailed(
            f"the module {name!r} cannot be imported: {type(err).__name__}: {err}"
        ) from err
