# SPDX-License-Identifier: BUSL-1.1
"""Where stores are: one's own, and the shared ones below it, which are only read."""

from __future__ import annotations

import os
from pathlib import Path

from axon_client import config
from axon_client.catalog import scan
from axon_client.models import InstalledModel
from axon_client.store.blobs import Blobs


def default_layers(home: Path) -> tuple[Path, ...]:
    """`$AXON_STORES`, else what the configuration in `home` says; the nearest first."""
    chosen = os.environ.get("AXON_STORES")
    if chosen is not None:
        stores = [part for part in chosen.split(os.pathsep) if part]
    else:
        stores = config.load(home).stores
    paths = [Path(store).expanduser().absolute() for store in stores]
    return tuple(path for path in dict.fromkeys(paths) if path != home)


class Layer:
    """A store, as far as it is read."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = home / "models"
        self.blobs = Blobs(home / "blobs" / "sha256")

    def installed(self) -> list[InstalledModel]:
        """Its models, by name."""
        return scan(self.models)
