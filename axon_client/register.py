# SPDX-License-Identifier: BUSL-1.1
"""Handing an installed model to the daemon."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from axon_client.models import InstalledModel
from axon_client.serving import (
    Connect,
    Daemon,
    Served,
    Swapped,
    describe_swaps,
    served,
    swap,
    what_to_load,
)
from mlos_core.errors import Unavailable

PLUGINS = {"onnx": "onnx", "gguf": "synapse", "tflite": "tflite"}
"""Plugin by format. For any other the daemon chooses among its plugins by suffix."""


def connect_to(socket: str | None) -> AbstractContextManager[Daemon]:
    """A connection to the daemon at `socket`, or at the default one.

    Raises:
        Unavailable: no daemon runs there, or the client is not installed.
    """
    try:
        # Late: every other command works without the client's native extension.
        client = importlib.import_module("mlos_core.client")
    except ImportError as error:
        raise Unavailable(
            f"the MLOS Core client does not import: {error}", hint="pip install mlos-core"
        ) from error
    connection: AbstractContextManager[Daemon] = client.connect(socket)
    return connection


def parameters(
    model: InstalledModel, name: str = "", file: str | None = None, plugin: str = ""
) -> dict[str, Any]:
    """What the daemon's `register` is told of a package's model.

    A model that runs code when it is opened is handed over like any other: its plugin asks
    again, by refusing it until the user gives the option that allows it.

    Args:
        name: what clients will call it; the package's name if empty.
        file: which of the package's models; the main one if None.
        plugin: which plugin loads it; by the model's format if empty.

    Raises:
        NotFound, InvalidInput: the package has no such model, or no main one.
    """
    chosen = model.choose(file)
    return {
        "name": name or model.spec.name,
        "path": str(what_to_load(model.path / chosen.path, chosen.format)),
        "plugin": plugin or PLUGINS.get(chosen.format, ""),
        "version": model.spec.version,
        "manifest": model.manifest_for(file),
    }


def register(
    model: InstalledModel,
    connect: Connect,
    *,
    name: str = "",
    file: str | None = None,
    instances: int = 1,
    replace: bool = False,
    device: str = "",
    plugin: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Register one of a package's models with the daemon.

    Args:
        name: what clients will call it; the package's name if empty.
        file: which of the package's models; the main one if None.
        plugin: which plugin loads it; by the model's format if empty.
        device: `cpu` or `cuda:N`; the daemon's default if empty.
        options: the plugin's own.

    Returns:
        What the daemon says of the model.
    """
    told = parameters(model, name, file, plugin)
    if device:
        told["device"] = device
    if options:
        told["options"] = dict(options)
    with connect() as daemon:
        answer: dict[str, Any] = daemon.call(
            "register", **told, instances=instances, replace=replace
        )
    return answer


__all__ = [
    "PLUGINS",
    "Connect",
    "Daemon",
    "Served",
    "Swapped",
    "connect_to",
    "describe_swaps",
    "parameters",
    "register",
    "served",
    "swap",
]
