# SPDX-License-Identifier: BUSL-1.1
"""The content-addressed store of installed models.

    HOME/blobs/sha256/<hex>                          every distinct file once, read-only
    HOME/models/<namespace>/<name>/<version>/...     links to blobs, and manifest.yaml
    HOME/staging/<random>/, <random>.owner           installations under way
    HOME/lock                                        held while models or blobs change

Guarantees: a model's folder appears whole or not at all; a blob is deleted only under the
lock and only when no model needs it; a killed process leaves nothing but a staging folder,
which the next installation removes: the lock on the folder's `.owner` file is then free.

The links are hard links. A symbolic one would lead whoever resolves it out of the model's
folder and into `blobs/`, where its neighbours (external weights, tokenizer) are missing and
the file has no suffix; runtimes that check where external weights lie refuse that. Where
the file system has no hard links, symbolic ones are made.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from axon_client import manifest as manifests
from axon_client.catalog import scan
from axon_client.hashing import hash_file
from axon_client.lock import locked, try_lock
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec
from axon_client.verify import Problem, verify
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

LOCK_TIMEOUT_S = 600.0
_NO_HARD_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


def default_home() -> Path:
    """`$AXON_HOME`, or `~/.axon`."""
    chosen = os.environ.get("AXON_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".axon"


class Stage(msgspec.Struct, frozen=True):
    """A private folder in the store. An adapter puts the package's files under `files`."""

    path: Path

    @property
    def files(self) -> Path:
        """What will be the model's folder."""
        return self.path / "files"

    @property
    def scratch(self) -> Path:
        """For downloads; thrown away."""
        return self.path / "scratch"


class Freed(msgspec.Struct, frozen=True):
    """What a removal gave back."""

    blobs: int
    bytes: int


class Store:
    """The store below `home`. Processes may use one store at the same time."""

    def __init__(
        self, home: Path | str | None = None, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self.home = (Path(home) if home else default_home()).absolute()
        self.blobs = self.home / "blobs" / "sha256"
        self.models = self.home / "models"
        self._staging = self.home / "staging"
        self._lock_timeout_s = lock_timeout_s

    @contextmanager
    def _locked(self) -> Iterator[None]:
        for folder in (self.blobs, self.models, self._staging):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(self.home / "lock", self._lock_timeout_s):
            yield

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """A fresh staging folder, gone at the end of the block."""
        with self._locked():
            self._clear_staging()
            path = self._staging / secrets.token_hex(8)
            owner = _owner_file(path).open("xb")
            try_lock(owner)
        with owner:
            try:
                stage = Stage(path)
                stage.files.mkdir(parents=True)
                stage.scratch.mkdir()
                yield stage
            finally:
                if path.exists():
                    shutil.rmtree(path)
                _owner_file(path).unlink(missing_ok=True)

    def _clear_staging(self) -> None:
        """Remove the folders whose owners are dead: nobody holds the lock on their file."""
        for file in self._staging.glob("*.owner"):
            with suppress(FileNotFoundError), file.open("rb") as owner:
                if not try_lock(owner):
                    continue
                path = file.with_suffix("")
                if path.exists():
                    shutil.rmtree(path)
                file.unlink()

    def folder(self, spec: PackageSpec) -> Path:
        """Where a package is, or would be."""
        return self.models / spec.namespace / spec.name / spec.version

    def commit(
        self, stage: Stage, manifest: Manifest, *, replace: bool, progress: Progress = silent
    ) -> InstalledModel:
        """Make the staged files an installed model.

        The adapter has checked that they have the digests that `manifest` lists.
        Installing the same files again changes nothing, or heals what was damaged.

        Raises:
            AlreadyExists: other files are installed under that name and version.
        """
        spec = spec_of(manifest)
        with self._locked():
            target = self.folder(spec)
            there = InstalledModel(spec, target)
            if target.exists():
                if not replace and not same_files(there, manifest):
                    raise AlreadyExists(
                        f"{spec} is installed with other files",
                        hint="give it another version, or replace it with --replace",
                    )
                if same_manifest(there, manifest) and not verify(there, self.blobs, progress):
                    return there
            self._check_nesting(target)
            for file in manifest.spec.format.files:
                self._adopt(stage.files / file.path, file.sha256)
            self._swap_in(self._build(stage, manifest), target, stage.path / "old")
            self._collect()
            return InstalledModel(spec, target)

    def _check_nesting(self, target: Path) -> None:
        """A name may contain `/`, but no model's folder may lie in another's."""
        around = [model for model in scan(self.models) if target.is_relative_to(model.path)]
        within = [model for model in scan(self.models) if model.path.is_relative_to(target)]
        for other in (*around, *within):
            if other.path != target:
                raise AlreadyExists(
                    f"{target.relative_to(self.models)} would mix with {other.spec}",
                    hint="uninstall that first, or choose another name",
                )

    def _adopt(self, source: Path, digest: str) -> None:
        blob = self.blobs / digest
        if blob.exists() and hash_file(blob) == digest:
            return
        with source.open("rb") as file:
            os.fsync(file.fileno())
        source.chmod(0o444)
        source.replace(blob)

    def _build(self, stage: Stage, manifest: Manifest) -> Path:
        tree = stage.path / "tree"
        tree.mkdir()
        for file in manifest.spec.format.files:
            link = tree / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            _link(self.blobs / file.sha256, link)
        with (tree / manifests.FILE_NAME).open("xb") as out:
            out.write(manifests.encode(manifest))
            _sync(out)
        (tree / manifests.FILE_NAME).chmod(0o444)
        return tree

    def _swap_in(self, tree: Path, target: Path, old: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(old)
        tree.rename(target)
        _sync_folder(target.parent)
        _sync_folder(self.blobs)
        if old.exists():
            shutil.rmtree(old)  # now, so that its links do not keep its blobs

    def uninstall(self, model: InstalledModel) -> Freed:
        """Remove a model and the blobs that only it needed."""
        with self.stage() as stage, self._locked():
            try:
                model.path.rename(stage.path / "old")
            except FileNotFoundError as error:
                raise NotFound(f"{model.spec} is not installed") from error
            _prune(model.path.parent, self.models)
            shutil.rmtree(stage.path / "old")
            return self._collect()

    def installed(self) -> list[InstalledModel]:
        """All installed models, by name."""
        return scan(self.models)

    def verify(self, model: InstalledModel, progress: Progress = silent) -> list[Problem]:
        """Hash every file of a model again; an empty list means all is well."""
        return verify(model, self.blobs, progress)

    def _collect(self) -> Freed:
        """Delete the blobs that no model refers to. Call with the lock held.

        A blob is needed if a manifest lists it, if it has another hard link, or if a
        symbolic link below `models` names it: a model whose manifest is damaged keeps its
        files all the same.
        """
        needed = set(self._referred())
        freed = size = 0
        for blob in self.blobs.iterdir():
            status = blob.stat()
            if blob.name not in needed and status.st_nlink == 1:
                blob.unlink()
                freed, size = freed + 1, size + status.st_size
        return Freed(freed, size)

    def _referred(self) -> Iterator[str]:
        for model in scan(self.models):
            with suppress(InvalidInput):
                yield from (file.sha256 for file in model.manifest.spec.format.files)
        for folder, _, names in os.walk(self.models):
            for name in names:
                path = Path(folder, name)
                if path.is_symlink():
                    yield path.readlink().name


def _owner_file(stage: Path) -> Path:
    return stage.with_suffix(".owner")


def spec_of(manifest: Manifest) -> PackageSpec:
    """The package a manifest is of."""
    about = manifest.metadata
    return PackageSpec(about.namespace, about.name, about.version)


def same_files(model: InstalledModel, manifest: Manifest) -> bool:
    """Whether the installed model has exactly the manifest's files."""
    try:
        return model.manifest.spec.format.files == manifest.spec.format.files
    except InvalidInput:
        return True  # a damaged manifest is healed by the same package


def same_manifest(model: InstalledModel, manifest: Manifest) -> bool:
    """Whether the installed model has exactly this manifest."""
    try:
        return model.manifest == manifest
    except InvalidInput:
        return False


def _link(blob: Path, link: Path) -> None:
    try:
        link.hardlink_to(blob)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        link.symlink_to(blob)


def _prune(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise
        folder = folder.parent


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
