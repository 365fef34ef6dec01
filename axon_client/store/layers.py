# SPDX-License-Identifier: BUSL-1.1
"""Where stores are: one's own, and the shared ones below it, which are only read."""

from __future__ import annotations

import os
from pathlib import Path

from axon_client import config
from axon_client import manifest as manifests
from axon_client.catalog import model_folders, scan
from axon_client.models import InstalledModel
from axon_client.spec import PackageSpec
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


class Stack:
    """One's own store over those of others, as far as they are read."""

    def __init__(self, own: Layer, layers: tuple[Layer, ...]) -> None:
        self.home = own.home
        self.models = own.models
        self.layers = layers
        self._own = own

    def folder(self, spec: PackageSpec) -> Path:
        """Where a package is, or would be: in the first store that has it, or one's own."""
        inside = Path(spec.namespace) / spec.name / spec.version
        for layer in (self._own, *self.layers):
            if (layer.models / inside / manifests.FILE_NAME).is_file():
                return layer.models / inside
        return self.models / inside

    def installed(self) -> list[InstalledModel]:
        """All installed models, by name; one's own hides the same one in a layer."""
        found: dict[PackageSpec, InstalledModel] = {}
        for layer in (self._own, *self.layers):
            for model in layer.installed():
                found.setdefault(model.spec, model)
        return sorted(found.values(), key=lambda model: str(model.spec))

    def at(self, spec: PackageSpec) -> InstalledModel | None:
        """The installed model of exactly that version."""
        folder = self.folder(spec)
        there = (folder / manifests.FILE_NAME).is_file()
        return InstalledModel(spec, folder) if there else None

    def versions(self, spec: PackageSpec) -> list[InstalledModel]:
        """The installed versions of a package, without looking at any other."""
        found: dict[str, InstalledModel] = {}
        for layer in (self._own, *self.layers):
            folder = layer.models / spec.namespace / spec.name
            for path in model_folders(folder):
                if path.parent == folder:
                    found.setdefault(path.name, InstalledModel(spec.at(path.name), path))
        return list(found.values())

    def layer_of(self, model: InstalledModel) -> Path:
        """The home of the store that holds a model."""
        for layer in self.layers:
            if model.path.is_relative_to(layer.models):
                return layer.home
        return self.home

    def blob(self, digest: str) -> Path | None:
        """The blob of that digest, in the first store that has it."""
        for layer in (self._own, *self.layers):
            if layer.blobs.has(digest):
                return layer.blobs.path(digest)
        return None
