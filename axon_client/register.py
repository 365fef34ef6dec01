# SPDX-License-Identifier: BUSL-1.1
"""Handing an installed model to the daemon."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from axon_client.models import InstalledModel
from mlos_core.errors import Unavailable

PLUGINS = {"onnx": "onnx", "gguf": "synapse"}
"""Plugin by format. For any other the daemon chooses among its plugins by suffix."""
CONFIG = "config.json"


class Daemon(Protocol):
    """The part of the client that is used here."""

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the control plane."""
        ...


Connect = Callable[[], AbstractContextManager[Daemon]]


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
) -> dict[str, Any]:
    """Register one of a package's models with the daemon.

    Args:
        name: what clients will call it; the package's name if empty.
        file: which of the package's models; the main one if None.
        plugin: which plugin loads it; by the model's format if empty.
        device: `cpu` or `cuda:N`; the daemon's default if empty.

    Returns:
        What the daemon says of the model.
    """
    chosen = model.choose(file)
    optional = {"device": device} if device else {}
    with connect() as daemon:
        answer: dict[str, Any] = daemon.call(
            "register",
            name=name or model.spec.name,
            path=str(_whole(model.path / chosen.path, chosen.format)),
            plugin=plugin or PLUGINS.get(chosen.format, ""),
            version=model.spec.version,
            manifest=model.manifest_for(file),
            instances=instances,
            replace=replace,
            **optional,
        )
    return answer


def _whole(path: Path, format: str) -> Path:
    """The model's file, or its folder where the file is one of several that make the model."""
    folder = format == "safetensors" and (path.parent / CONFIG).is_file()
    return path.parent if folder else path
