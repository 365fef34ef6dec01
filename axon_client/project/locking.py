# SPDX-License-Identifier: BUSL-1.1
"""Making a lock: from wishes to versions, from versions to bytes.

What was locked stays locked as long as it fits, so that a lock changes only where
`axon.toml` did, or where an update was asked for. A package whose source does not list the
digests of its files is installed to learn them; it would be by the next sync in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from axon_client import adapters, resolver
from axon_client.adapters.base import Adapter, Pins, Resolved
from axon_client.installation import Installation, InstallOptions
from axon_client.manifest import Manifest, ModelFile
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.project import locked
from axon_client.project.locked import Lock, Locked, Origin
from axon_client.project.settings import FILE_NAME, Project, Wish
from axon_client.project.sources import Settled, Sources, check_named, check_policy
from axon_client.resolver import Chosen, Resolution
from axon_client.spec import PackageSpec, PathSpec, UrlSpec
from axon_client.store import Store
from mlos_core.errors import InvalidInput, Unavailable


class Locker:
    """Makes a project's lock.

    Args:
        old: the lock there is.
        loose: `namespace/name` of what may move within its range; None is everything.
        prefer: exact packages to lock where they fit, above what is locked.
        offline: ask nobody; what is installed has to do.
        learn: install what has to be read to know its files; else they stay unknown.
    """

    def __init__(
        self,
        project: Project,
        store: Store,
        old: Lock | None,
        *,
        loose: Collection[str] | None = (),
        prefer: Iterable[PackageSpec] = (),
        offline: bool = False,
        learn: bool = True,
        progress: Progress = silent,
    ) -> None:
        self._project = project
        self._store = store
        self._old = old or Lock()
        self._loose = loose
        self._prefer = {package.title: package.version for package in prefer}
        self._learning = learn
        self._offline = offline
        self._progress = progress
        self._sources = Sources(project, store.home)
        self._pins = self._choose_pins()

    def lock(self) -> Lock:
        """The new lock; nothing is written.

        Raises:
            NotFound, InvalidInput: no versions suit everybody; says who wants what.
            Unavailable: a source cannot be reached.
        """
        here = self._install_files()
        fixed = {
            title: Settled(model.spec, tuple(model.manifest.spec.dependencies.models))
            for title, model in here.items()
        }
        self._sources = Sources(self._project, self._store.home, fixed)
        resolution = resolver.resolve(
            [self._wanted(title, here) for title in self._project.models],
            source_of=self._source_of(fixed),
            pins=self._pins,
            asker=FILE_NAME,
        )
        packages = [self._entry(one, here) for one in resolution.packages]
        return locked.make(self._project.models, packages)

    def _source_of(self, fixed: Mapping[str, Adapter]) -> resolver.SourceOf:
        if not self._offline:
            return self._sources
        stored = resolver.stored(self._store.installed())
        return lambda package: fixed.get(package.title) or stored(package)

    def _install_files(self) -> dict[str, InstalledModel]:
        """Install what paths and URLs name: only the files tell which package they are."""
        found = {}
        for title, wish in self._project.models.items():
            spec = self._project.spec(title)
            if isinstance(spec, PackageSpec):
                continue
            check_named(self._project, title, self._store.home)
            check = _called(title, wish)
            model = install_file(self._store, spec, wish, self._progress, check)
            found[title] = model
        return found

    def _wanted(self, title: str, here: Mapping[str, InstalledModel]) -> PackageSpec:
        if title in here:
            return here[title].spec
        spec = self._project.spec(title)
        assert isinstance(spec, PackageSpec)
        return spec

    def _choose_pins(self) -> dict[str, str]:
        """What stays: every package whose wish is the one that it was locked for."""
        if self._loose is None:
            return self._prefer
        changed = {
            title
            for title, wish in self._project.models.items()
            if self._old.wishes.get(title) != wish
        }
        moving = changed | set(self._loose)
        kept = {one.name: one.version for one in self._old.packages if one.name not in moving}
        return kept | self._prefer

    def _entry(self, one: Chosen, here: Mapping[str, InstalledModel]) -> Locked:
        title = one.package.title
        wish = self._project.models.get(title, Wish())
        check_policy(self._project, one, self._store.home)
        old = self._old.get(title)
        revision, manifest = revision_of(one.found), digest_of(one.found)
        if old and isinstance(one.source, Pins) and self._pins.get(title) == old.version:
            revision = old.revision  # the version may mean another one by now
        files: Sequence[ModelFile] | None
        if title in here:
            files = here[title].manifest.spec.format.files
        elif old and _same(old, one, wish, revision):
            files = old.files
            revision, manifest = revision or old.revision, manifest or old.manifest
        else:
            files = listed(one.found) or self._learn(one, wish)
            if old and _alike(old, one, wish, files, manifest):
                revision = old.revision
        return Locked(
            name=title,
            version=one.package.version,
            origin=self._origin(one.package, wish),
            revision=revision,
            manifest=manifest,
            include=wish.include,
            pickles=wish.pickles,
            dependencies=sorted(str(package) for package in one.dependencies),
            files=sorted(files, key=lambda file: file.path),
        )

    def _origin(self, package: PackageSpec, wish: Wish) -> Origin:
        if wish.path or wish.url:
            return Origin(path=wish.path, url=f"{wish.url}#sha256={wish.sha256}" * bool(wish.url))
        return self._sources.origin(package)

    def _learn(self, one: Chosen, wish: Wish) -> Sequence[ModelFile]:
        """The files of a package, from an installation of it."""
        if self._offline:
            raise Unavailable(
                f"{one.package} cannot be locked without asking its source",
                hint="run axon lock without --offline",
            )
        if not self._learning:
            return []
        there = self._store.at(one.package)
        options = InstallOptions(
            dependencies=False,
            allow_pickle=wish.pickles,
            replace=there is not None and not _is_of(there, one.found),
        )
        installation = Installation(self._store, options, self._progress)
        done = installation.install_resolution(Resolution((one,)), {one.package.title: one.package})
        return done[-1].model.manifest.spec.format.files


def _is_of(model: InstalledModel, found: Resolved) -> bool:
    """Whether an installed model certainly came from what its source has now."""
    try:
        manifest = model.manifest
    except InvalidInput:
        return False
    if found.sha256:
        return manifest.distribution.package.sha256 == found.sha256
    return bool(found.revision) and found.revision in manifest.metadata.annotations.values()


def _called(title: str, wish: Wish) -> Callable[[Manifest], None]:
    """A check, before anything is replaced, that what comes has the name it is wanted by."""

    def check(manifest: Manifest) -> None:
        name = manifest.title.rpartition("@")[0]
        if name != title:
            raise InvalidInput(
                f"{FILE_NAME}: {wish.path or wish.url} is {name}, not {title}",
                hint=f'call it "{name}" there, or change its manifest',
            )

    return check


def install_file(
    store: Store,
    spec: PathSpec | UrlSpec,
    wish: Wish,
    progress: Progress,
    check: Callable[[Manifest], None] | None = None,
) -> InstalledModel:
    """Install what a path or URL names, in the place of what it was before.

    Args:
        check: see `InstallOptions`.
    """
    options = InstallOptions(
        dependencies=False, replace=True, allow_pickle=wish.pickles, check=check
    )
    done = Installation(store, options, progress, adapters.adapter_for(spec, store.home))
    return done.install([spec])[-1].model


def _same(old: Locked, one: Chosen, wish: Wish, revision: str) -> bool:
    """Whether a locked package is the one that was chosen, so that its files are known."""
    choice = (old.include, old.pickles) == (wish.include, wish.pickles)
    # A source that names no revision - what is installed, offline - has only the version.
    pinned = not revision or not old.revision or old.revision == revision
    return choice and old.version == one.package.version and pinned


def _alike(old: Locked, one: Chosen, wish: Wish, files: Sequence[ModelFile], manifest: str) -> bool:
    """Whether another revision holds what was locked: a wheel for another machine."""
    there = sorted(files, key=lambda file: file.path)
    return _same(old, one, wish, old.revision) and (there, manifest) == (old.files, old.manifest)


def revision_of(found: Resolved) -> str:
    """What pins a package's content at its source."""
    return found.revision or (f"sha256:{found.sha256}" if found.sha256 else "")


def digest_of(found: Resolved) -> str:
    """The digest of a published manifest; empty where the source publishes none."""
    return f"sha256:{hashlib.sha256(found.manifest).hexdigest()}" if found.manifest else ""


def listed(found: Resolved) -> list[ModelFile] | None:
    """The files that a published manifest lists; None where the source publishes none.

    Other sources may find more files while they fetch, such as weights that lie apart.
    """
    if not found.manifest or any(not file.sha256 or file.size < 0 for file in found.files):
        return None
    return [ModelFile(file.path, file.size, file.sha256) for file in found.files]


def drift(project: Project, lock: Lock | None) -> list[str]:
    """How `axon.toml` differs from the wishes that a lock was made for, in sentences."""
    if lock is None:
        return ["there is no axon.lock"]
    said = []
    for title in sorted({*project.models, *lock.wishes}):
        wish, was = project.models.get(title), lock.wishes.get(title)
        if wish is None:
            said.append(f"{title} is locked and no longer wanted")
        elif was is None:
            said.append(f"{title} is wanted and not locked")
        elif wish != was:
            said.append(f"{title} is locked for {_brief(was)} and wanted as {_brief(wish)}")
        elif lock.get(title) is None:
            said.append(f"{title} is wanted and missing in the lock")
    return said


def _brief(wish: Wish) -> str:
    return wish.path or wish.url or wish.version or "any version"
