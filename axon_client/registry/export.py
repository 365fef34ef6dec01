# SPDX-License-Identifier: BUSL-1.1
"""A registry as plain files, for any web server: the same paths, searched by the client.

Guarantees: what a file names is written before it, so that a server that serves the folder
meanwhile never promises what is not there; `index.json` and `registry.json` come last and tell
what there was when the export began. Every file appears whole and is on disk by then. What was
exported before is replaced where it changed and otherwise kept.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client import pack
from axon_client.errors import IntegrityError
from axon_client.files import replacing
from axon_client.hashing import copy_durably
from axon_client.manifest import ModelFile
from axon_client.progress import Progress, silent
from axon_client.registry import search
from axon_client.registry.site import Site
from axon_client.spec import PackageSpec
from mlos_core.errors import AlreadyExists, InvalidInput

_API: Final = "api/v1"
_LONGEST: Final = 255
"""Bytes of a file's name on all common file systems."""


class Exported(msgspec.Struct, frozen=True):
    """What was written: packages, versions, blobs, and the bytes of those that were copied."""

    packages: int
    versions: int
    blobs: int
    copied: int


def export(
    site: Site, folder: Path, *, archives: bool = True, progress: Progress = silent
) -> Exported:
    """Write the registry below `folder`.

    Blobs are hard links where both folders are on one file system, else copies.

    Args:
        site: the registry.
        folder: what a web server shall serve.
        archives: also the original's `/packages/*.axon`, which are copies.
        progress: told how many bytes of blobs are there.

    Raises:
        InvalidInput: the folder is the registry's own.
    """
    if folder.absolute().is_relative_to(site.folder) or site.folder.is_relative_to(
        folder.absolute()
    ):
        raise InvalidInput(f"{folder} is part of the registry", hint="choose another folder")
    job = _Export(site, folder, archives, progress)
    everything, about = search.everything(site.database), site.about(static=True)
    packages = site.database.packages()
    for namespace, name in packages:
        job.package(namespace, name)
    _write(folder / _API / "index.json", everything)
    _write(folder / _API / "registry.json", about)
    return Exported(len(packages), job.versions, len(job.blobs), job.copied)


class _Export:
    def __init__(self, site: Site, folder: Path, archives: bool, progress: Progress) -> None:
        self._site = site
        self._folder = folder
        self._archives = archives
        self._progress = progress
        self.versions = self.copied = self._done = 0
        self.blobs: set[str] = set()

    def package(self, namespace: str, name: str) -> None:
        """One package: its versions, then the index that names them."""
        index = self._site.database.index(namespace, name)
        for row in index.versions:
            self._version(PackageSpec(namespace, name, row.version))
        _write(self._model(PackageSpec(namespace, name)) / "-" / "index.json", index)

    def _version(self, package: PackageSpec) -> None:
        identity = (package.namespace, package.name, package.version)
        detail = self._site.database.version(*identity)
        manifest = self._site.database.manifest(*identity)
        self._site.blobs.check(str(package), detail.files)
        for file in detail.files:
            self._blob(file)
        if self._archives:
            self._archive(package, manifest, detail.files)
        model = self._model(package)
        _put(model / package.version / "manifest.yaml", [manifest])
        _write(model / "-" / "versions" / f"{package.version}.json", detail)
        self.versions += 1

    def _model(self, package: PackageSpec) -> Path:
        return self._folder / _API / "models" / package.namespace / package.name

    def _blob(self, file: ModelFile) -> None:
        if file.sha256 in self.blobs:
            return
        self.blobs.add(file.sha256)
        target = self._folder / _API / "blobs" / "sha256" / file.sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.stat().st_size == file.size):
            self._place(self._site.blobs.root / file.sha256, target, file.size)
        self._done += file.size
        self._progress("export", self._done, 0)

    def _place(self, source: Path, target: Path, size: int) -> None:
        fresh = target.with_name(f".axon-{secrets.token_hex(8)}")
        try:
            try:
                fresh.hardlink_to(source)
            except OSError:  # another file system, or one without hard links
                self._copy(source, fresh, size)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)

    def _copy(self, source: Path, target: Path, size: int) -> None:
        with source.open("rb") as file:
            _, digest = copy_durably(file, target, size)
        if digest != source.name:
            raise IntegrityError(f"the registry's file {source} is damaged", hint="upload it again")
        target.chmod(0o444)
        self.copied += size

    def _archive(self, package: PackageSpec, manifest: bytes, files: list[ModelFile]) -> None:
        name = pack.file_name(package)
        if len(name) > _LONGEST:
            return  # no file can be called that; the manifest and its blobs are there
        try:
            self._site.database.archived(name)
        except AlreadyExists:
            return  # as on the server: the name means several packages, so it means none
        target = self._folder / "packages" / name
        if target.exists() and target.stat().st_size == pack.packed_size(manifest, files):
            return
        blobs = self._site.blobs
        _put(target, pack.packed(manifest, files, lambda file: blobs.open(file.sha256)))


def _write(path: Path, value: Any) -> None:
    _put(path, [msgspec.json.encode(value)])


def _put(path: Path, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as out:
        os.fchmod(out.fileno(), 0o644)  # a web server is another user
        out.writelines(pieces)
