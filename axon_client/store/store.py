# SPDX-License-Identifier: BUSL-1.1
"""The content-addressed store of installed models.

    HOME/blobs/sha256/<hex>                          every distinct file once, read-only
    HOME/models/<namespace>/<name>/<version>/...     links to blobs, and manifest.yaml
    HOME/staging/<random>/, <random>.owner           installations under way
    HOME/partial/<key>, .state, .lock                downloads under way
    HOME/leases, pins, names                         see `notes`
    HOME/lock                                        see below

Guarantees: a model's folder appears whole or not at all, also in place of another; a blob
is deleted only while the lock is held alone, and only when nothing needs it; a killed
process leaves a staging folder, which the next installation removes (the lock on the
folder's `.owner` file is then free), and what it downloaded, which the next one uses.

Who links to a blob or adds one holds the lock shared, for that moment; who deletes blobs or
changes `models` holds it alone, and reads and hashes nothing large meanwhile. Reading takes
no lock, so a store that may only be read works as far as nothing has to be written.

The links are hard links. A symbolic one would lead whoever resolves it out of the model's
folder and into `blobs/`, where its neighbours (external weights, tokenizer) are missing and
the file has no suffix; runtimes that check where external weights lie refuse that. Where
the file system has no hard links, symbolic ones are made.

A blob that only a lower layer has becomes one's own: by a hard link, else a clone, else a
copy. A symbolic link would cost nothing too, but the layer's own gc cannot see it, and the
model would be gone with the layer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from axon_client import manifest as manifests
from axon_client.catalog import is_model, model_folders
from axon_client.errors import IntegrityError
from axon_client.hashing import copy_durably, hash_file
from axon_client.lock import is_claimed, locked, try_lock
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.seals import is_intact, is_sealed
from axon_client.spec import PackageSpec
from axon_client.store import disk, tree
from axon_client.store.collect import Freed, referred, sweep
from axon_client.store.layers import Layer, default_home, default_layers
from axon_client.store.notes import Leases, Names, Pins
from axon_client.store.partial import OLD_S, Partials
from axon_client.store.stage import MOST, Stage, check_same, copy_in
from axon_client.verify import Problem, is_as_listed, verify
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile

LOCK_TIMEOUT_S = 600.0
_OWNER = ".owner"


class Store:
    """The store below `home`, over read-only `layers`. Processes may use it at the same time.

    Args:
        home: one's own store; `$AXON_HOME` or `~/.axon` if left out.
        layers: the stores below it, the nearest first; `$AXON_STORES` or what the
            configuration says if left out.
        lock_timeout_s: how long another process may hold the lock.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        layers: Sequence[Path | str] | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self.home = (Path(home) if home else default_home()).absolute()
        self._own = Layer(self.home)
        below = default_layers(self.home) if layers is None else map(Path, layers)
        self.layers = tuple(Layer(path.absolute()) for path in below)
        self.models = self._own.models
        self.partials = Partials(self.home / "partial")
        self.leases = Leases(self.home / "leases")
        self.pins = Pins(self.home / "pins")
        self.names = Names(self.home / "names")
        self._staging = self.home / "staging"
        self._lock_timeout_s = lock_timeout_s

    @property
    def blobs(self) -> Path:
        """The folder of one's own blobs."""
        return self._own.blobs.folder

    @contextmanager
    def _locked(self, *, shared: bool = False) -> Iterator[None]:
        for folder in (self.blobs, self.models, self._staging, self.partials.folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(self.home / "lock", self._lock_timeout_s, shared=shared):
            yield

    # Looking

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

    def verify(self, model: InstalledModel, progress: Progress = silent) -> list[Problem]:
        """Hash every file of a model again; an empty list means all is well."""
        return verify(model, self.layer_of(model) / "blobs" / "sha256", progress)

    # Adding blobs

    def put(self, source: Path | IO[bytes], sha256: str = "") -> str:
        """Add a blob that belongs to no model; gives its digest.

        It is spared for a day. Whoever needs it for longer pins it: `store.pins.add`.

        Args:
            sha256: what its digest has to be.

        Raises:
            IntegrityError: it has another digest.
        """
        with self.stage() as stage:
            if not isinstance(source, Path):
                path = stage.scratch / "put"
                _, found = copy_durably(source, path, MOST)
                check_same("what was put", found, sha256)
                made = stage.adopt("put", path, found)
            else:
                made = stage.adopt("put", source, sha256)
            self.leases.take(made.sha256)
        return made.sha256

    def link(self, digest: str, target: Path, distrust: bool = False) -> bool:
        """Make `target`, in a stage, a link to a blob; False if no store has it intact.

        Args:
            distrust: read the blob to see whether it is intact.
        """
        if self._link_own(digest, target):
            if hash_file(target) == digest if distrust else is_intact(target, digest):
                return True
            self._reject(digest, target)
        return any(self._import(layer.blobs.path(digest), digest, target) for layer in self.layers)

    def _link_own(self, digest: str, target: Path) -> bool:
        if not self._own.blobs.has(digest):
            return False
        with self._locked(shared=True):
            if not self._own.blobs.has(digest):
                return False
            disk.link(self._own.blobs.path(digest), target)
        return True

    def _reject(self, digest: str, link: Path) -> None:
        """Drop a damaged blob, which `link` leads to, unless a sound one took its place."""
        blob = self._own.blobs.path(digest)
        with self._locked():
            if blob.exists() and blob.samefile(link):
                blob.unlink()
        link.unlink()

    def _import(self, source: Path, digest: str, target: Path) -> bool:
        """Take a lower layer's blob over; False if it has none, or a damaged one."""
        made = target.with_name(f".{digest}")
        try:
            sealed = is_sealed(source.stat(), digest)
            if not (sealed and disk.hard_link(source, made)):
                _, found = copy_in(source, made)
                if found != digest:
                    made.unlink()
                    return False
        except (FileNotFoundError, PermissionError):
            return False
        self.take(made, digest, target)
        return True

    def take(self, source: Path, digest: str, target: Path) -> None:
        """Move a synced file of that digest into the store, and link to it at `target`."""
        with self._locked(shared=True):
            disk.link(self._own.blobs.take(source, digest), target)

    def take_download(self, partial: Path, file: RemoteFile, digest: str, target: Path) -> None:
        """As `take`, for what was downloaded: if the installation is killed, it is kept."""
        disk.sync_file(partial)
        with self._locked(shared=True):
            self.leases.take(digest)
            disk.link(self._own.blobs.take(partial, digest), target)
        if file.git_sha1:
            self.names.learn(file.git_sha1, digest)

    # Changing models

    @contextmanager
    def stage(self, *, distrust: bool = False, allow_pickle: bool = False) -> Iterator[Stage]:
        """A fresh staging folder, gone at the end of the block; see `Stage`."""
        with self._locked():
            self._clear_staging()
            path = self._staging / secrets.token_hex(8)
            owner = _owner_file(path).open("xb")
            try_lock(owner)
        with owner:
            stage = Stage(path, self, distrust=distrust, allow_pickle=allow_pickle)
            try:
                stage.files.mkdir(parents=True)
                stage.scratch.mkdir()
                yield stage
            finally:
                disk.remove_tree(path)
                _owner_file(path).unlink(missing_ok=True)
                self._release({file.sha256 for file in stage.known.values()} | stage.borrowed)

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
        target = self.models / spec.namespace / spec.name / spec.version
        model = InstalledModel(spec, target)
        old = set()
        if not self._settled(model, manifest, replace):
            self._settle(stage, manifest)
            built = tree.build(stage.path, manifest, self._own.blobs)
            disk.sync_folder(self.blobs)
            with self._locked():
                if self._settled(model, manifest, replace):
                    return model
                self._check_nesting(target)
                old = referred(target)
                tree.swap_in(built, target, self.models)
            disk.remove_tree(built)  # what was replaced, so that its links do not keep its blobs
        for digest in {file.sha256 for file in manifest.spec.format.files} | stage.borrowed:
            self.leases.drop(digest)
        self._release(old)
        return InstalledModel(spec, target)

    def _settled(self, there: InstalledModel, manifest: Manifest, replace: bool) -> bool:
        """Whether nothing is to be done, because that very model is installed and sound.

        Raises:
            AlreadyExists: another one is installed in its place, and not to be replaced.
        """
        if replace or not there.path.exists():
            return False
        if not same_files(there, manifest):
            raise AlreadyExists(
                f"{there.spec} is installed with other files",
                hint="give it another version, or replace it with --replace",
            )
        return same_manifest(there, manifest) and is_as_listed(there, self.blobs)

    def _settle(self, stage: Stage, manifest: Manifest) -> None:
        """Make blobs of the staged files that are none yet."""
        for file in manifest.spec.format.files:
            path, blob = stage.files / file.path, self._own.blobs.path(file.sha256)
            if not (blob.exists() and path.samefile(blob)):
                if path.is_symlink():
                    raise IntegrityError(f"{file.path} is a link out of the package")
                disk.sync_file(path)
                stage.known[file.path] = file
                self.take(path, file.sha256, path)

    def _check_nesting(self, target: Path) -> None:
        """A name may contain `/`, but no model's folder may lie in another's."""
        around = [path for path in target.parents if path.is_relative_to(self.models)][:-1]
        within = [path for path in model_folders(target) if path != target]
        for other in [path for path in around if is_model(path)] + within:
            raise AlreadyExists(
                f"{target.relative_to(self.models)} would mix with "
                f"{other.relative_to(self.models)}",
                hint="uninstall that first, or choose another name",
            )

    def uninstall(self, model: InstalledModel) -> Freed:
        """Remove a model and the blobs that only it needed.

        Raises:
            NotFound: it is not installed.
            InvalidInput: it is not in one's own store.
        """
        if self.layer_of(model) != self.home:
            raise InvalidInput(
                f"{model.spec} is in {self.layer_of(model)}, which is not your own store",
                hint=f"whoever keeps that one may: AXON_HOME={self.layer_of(model)} axon uninstall",
            )
        with self.stage() as stage, self._locked():
            try:
                model.path.rename(stage.path / "removed")
            except FileNotFoundError as error:
                raise NotFound(f"{model.spec} is not installed") from error
            disk.prune(model.path.parent, self.models)
            disk.remove_tree(stage.path / "removed")
            return self._sweep(set(self._own.blobs.names()))

    # Clearing up

    def gc(self, *, dry_run: bool = False, everything: bool = False) -> Freed:
        """Delete what nothing needs: blobs, old unfinished downloads, dead stages.

        What is installed, staged, pinned, or being downloaded is needed, and so is what was
        fetched within a day for an installation that did not end.

        Args:
            dry_run: only say what would go; what dead stages hold is not counted.
            everything: do not wait a day, nor a week for unfinished downloads.
        """
        with self._locked():
            stages = self._dead_stages()
            if not dry_run:
                self._remove_stages(stages)
            spared = set() if everything else self.leases.current()
            freed = self._sweep(set(self._own.blobs.names()), spared, dry_run=dry_run)
            freed += self._expire(0 if everything else OLD_S, dry_run=dry_run)
            if not dry_run:
                there = set(self._own.blobs.names())
                self.leases.keep(there & spared)
                self.names.keep(there)
        return freed + Freed(stages=len(stages))

    def _release(self, digests: set[str]) -> None:
        """Delete those of the blobs that nothing needs any more."""
        loose = [blob for blob in map(self._own.blobs.path, digests) if _is_loose(blob)]
        if loose:
            with self._locked():
                self._sweep({blob.name for blob in loose})

    def _sweep(
        self, candidates: set[str], spared: set[str] | None = None, *, dry_run: bool = False
    ) -> Freed:
        spared = self.leases.current() if spared is None else spared
        needed = spared | self.pins.all() | referred(self.models, self._staging)
        return sweep(self._own.blobs, candidates, needed, dry_run=dry_run)

    def _expire(self, age_s: float, *, dry_run: bool = False) -> Freed:
        """Delete downloads that nobody works on and that are older than `age_s` seconds."""
        freed, since = Freed(), time.time() - age_s
        for partial in self.partials.all():
            if partial.claimed or partial.used > since:
                continue
            if dry_run or self.partials.discard(partial):
                freed += Freed(bytes=partial.bytes, partials=1)
        return freed

    def _clear_staging(self) -> None:
        """Remove what killed installations left. Call with the lock held alone."""
        dead = self._dead_stages()
        self._remove_stages(dead)
        if dead:
            self._sweep(set(self._own.blobs.names()))
        self._expire(OLD_S)

    def _dead_stages(self) -> list[Path]:
        """The folders whose owners are dead: nobody holds the lock on their file."""
        names = {path.name.removesuffix(_OWNER) for path in self._staging.iterdir()}
        paths = [self._staging / name for name in sorted(names)]
        return [path for path in paths if not is_claimed(_owner_file(path))]

    def _remove_stages(self, stages: list[Path]) -> None:
        for stage in stages:
            tree.put_back(stage, self.models)
            disk.remove_tree(stage)
            _owner_file(stage).unlink(missing_ok=True)


def _owner_file(stage: Path) -> Path:
    return stage.with_name(stage.name + _OWNER)


def _is_loose(blob: Path) -> bool:
    """Whether a blob may be one that nothing needs."""
    try:
        return blob.stat().st_nlink == 1
    except FileNotFoundError:
        return False


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
