# SPDX-License-Identifier: BUSL-1.1
"""The content-addressed store of installed models.

    HOME/blobs/sha256/<hex>                          every distinct file once, read-only
    HOME/models/<namespace>/<name>/<version>/...     links to blobs, and manifest.yaml
    HOME/staging/<random>/, <random>.owner           installations under way
    HOME/partial/<key>, .state, .lock                downloads under way
    HOME/leases, names                               see `notes`
    HOME/lock                                        see below

Guarantees: a model's folder appears whole or not at all, also in place of another; a blob
is deleted only while the lock is held alone, and only when nothing needs it; a killed
process leaves a staging folder, which the next installation removes (the lock on the
folder's `.owner` file is then free), and what it downloaded, which the next one uses.

Who links to a blob holds the lock shared, for that moment; who adds or deletes one, or
changes `models`, holds it alone, and reads and hashes nothing large meanwhile. Reading takes
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
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from axon_client.catalog import is_model, model_folders
from axon_client.config import default_home
from axon_client.files import sync_folder
from axon_client.hashing import hash_file
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec
from axon_client.store import disk, tree
from axon_client.store.collect import Freed, referred
from axon_client.store.content import Content
from axon_client.store.layers import Layer, Stack, default_layers
from axon_client.store.partial import OLD_S, Partial
from axon_client.store.stage import Stage, check_same
from axon_client.store.staging import Staging
from axon_client.store.usage import Held, Usage, held, sums
from axon_client.verify import Problem, is_as_listed, verify
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

LOCK_TIMEOUT_S = 600.0


class Store(Stack):
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
        own = Layer((Path(home) if home else default_home()).absolute())
        below = default_layers(own.home) if layers is None else map(Path, layers)
        super().__init__(own, tuple(Layer(path.absolute()) for path in below))
        self.content = Content(self._own, self.layers, lock_timeout_s)
        self._staging = Staging(self.content, self.models)

    @property
    def blobs(self) -> Path:
        """The folder of one's own blobs."""
        return self._own.blobs.folder

    def verify(self, model: InstalledModel, progress: Progress = silent) -> list[Problem]:
        """Hash every file of a model again; an empty list means all is well."""
        return verify(model, self.layer_of(model) / "blobs" / "sha256", progress)

    # Changing models

    def stage(
        self, *, distrust: bool = False, allow_pickle: bool = False
    ) -> AbstractContextManager[Stage]:
        """A fresh staging folder, gone at the end of the block; see `Stage`."""
        return self._staging.open(distrust=distrust, allow_pickle=allow_pickle)

    def installing(
        self, spec: PackageSpec, progress: Progress = silent
    ) -> AbstractContextManager[None]:
        """Be the one who installs a package; waits while another process does.

        Raises:
            DeadlineExceeded: that one does not get on.
        """
        return self.content.claimed(str(spec), progress)

    def commit(
        self,
        stage: Stage,
        manifest: Manifest,
        *,
        replace: bool,
        progress: Progress = silent,
        extras: Mapping[str, bytes] | None = None,
    ) -> InstalledModel:
        """Make the staged files an installed model.

        Installing the same files again changes nothing, or heals what was damaged.

        Args:
            extras: what to keep beside the manifest, by file name.

        Raises:
            AlreadyExists: other files are installed under that name and version.
            IntegrityError: a staged file has not the digest that `manifest` lists.
        """
        spec = spec_of(manifest)
        model = InstalledModel(spec, self.models / spec.namespace / spec.name / spec.version)
        old = set()
        if not self._settled(model, manifest, replace):
            self._settle(stage, manifest, progress)
            built = tree.build(stage.path, manifest, self._own.blobs, extras or {})
            sync_folder(self.blobs)
            with self.content.locked():
                old = self._put_in_place(built, model, manifest, replace)
            disk.remove_tree(built)  # what was replaced, so that its links do not keep its blobs
        for digest in {file.sha256 for file in manifest.spec.format.files} | stage.borrowed:
            self.content.leases.drop(digest)
        self.content.release(old | stage.borrowed)
        return InstalledModel(spec, model.path, manifest)

    def _put_in_place(
        self, built: Path, model: InstalledModel, manifest: Manifest, replace: bool
    ) -> set[str]:
        """Swap the model's folder in; gives the digests of what it replaced."""
        now = InstalledModel(model.spec, model.path)  # another process may have installed it
        if self._settled(now, manifest, replace):
            return set()
        self._check_nesting(model.path)
        old = referred(model.path)
        tree.swap_in(built, model.path, self.models)
        return old

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

    def _settle(self, stage: Stage, manifest: Manifest, progress: Progress) -> None:
        """Make blobs of the staged files that are none yet."""
        done, total = 0, sum(file.size for file in manifest.spec.format.files)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("hash", done, total)

        for file in manifest.spec.format.files:
            path, blob = stage.files / file.path, self._own.blobs.path(file.sha256)
            if not (blob.exists() and path.samefile(blob)):
                check_same(file.path, hash_file(path, advance), file.sha256)
                stage.replace(file)

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
        with self.content.locked():
            # Not a stage of its own, for which a full disk, the very reason, has no room. If
            # this is killed, what is left is taken for a dead one.
            removed = self.content.staging / secrets.token_hex(8)
            try:
                model.path.rename(removed)
            except FileNotFoundError as error:
                raise NotFound(f"{model.spec} is not installed") from error
            disk.prune(model.path.parent, self.models)
            disk.remove_tree(removed)
            return self.content.sweep(set(self._own.blobs.names()))

    # Clearing up

    def gc(self, *, dry_run: bool = False, everything: bool = False) -> Freed:
        """Delete what nothing needs: blobs, old unfinished downloads, dead stages.

        What is installed, staged, pinned, or being downloaded is needed, and so is what was
        fetched within a day for an installation that did not end.

        Args:
            dry_run: only say what would go; what dead stages hold is not counted.
            everything: do not wait a day, nor a week for unfinished downloads.
        """
        with self.content.locked():
            stages = self._staging.dead()
            if not dry_run:
                self._staging.remove(stages)
            spared = set() if everything else self.content.leases.current()
            there = set(self.content.blobs.names())
            freed = self.content.sweep(there, spared, dry_run=dry_run)
            freed += self.content.partials.expire(0 if everything else OLD_S, dry_run=dry_run)
            if not dry_run:
                self.content.forget_all_but(spared)
        return freed + Freed(stages=len(stages))

    def held(self) -> list[Held]:
        """Every blob of one's own store, the largest first, and who uses it."""
        return held(self.content, self._own.installed())

    def partials(self) -> list[Partial]:
        """The unfinished downloads."""
        return self.content.partials.all()

    def statistics(self) -> Usage:
        """What one's own store holds, in numbers."""
        return sums(self.held(), self._own.installed(), self.partials(), self._staging.count())


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
