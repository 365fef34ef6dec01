# SPDX-License-Identifier: BUSL-1.1
"""Making the store hold what a lock lists: these packages, with these bytes.

Nothing is chosen here. What a source gives is compared with the lock before it is
installed; a version that is installed with other files is replaced.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from axon_client import adapters
from axon_client.adapters.base import Adapter, Pins, Resolved
from axon_client.errors import IntegrityError
from axon_client.installation import Installation, Installed, InstallOptions
from axon_client.manifest import Manifest, ModelFile
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.project.locked import Lock, Locked
from axon_client.project.locking import digest_of, listed
from axon_client.project.settings import Project, Wish
from axon_client.project.sources import Sources, check_named, check_policy
from axon_client.resolver import Chosen, Resolution
from axon_client.spec import PackageSpec, Spec
from axon_client.store import Store
from mlos_core.errors import InvalidInput, NotFound, Unavailable

_SHOWN = 3


class Synced(msgspec.Struct, frozen=True):
    """What became of one locked package."""

    package: Locked
    model: InstalledModel
    fresh: bool = False
    notes: tuple[str, ...] = ()


def holds(model: InstalledModel | None, package: Locked) -> bool:
    """Whether an installed model is exactly a locked package."""
    if model is None:
        return False
    try:
        return in_order(model.manifest.spec.format.files) == package.files
    except InvalidInput:
        return False


def in_order(files: list[ModelFile]) -> list[ModelFile]:
    """Files as a lock lists them."""
    return sorted(files, key=lambda file: file.path)


class Syncer:
    """Installs a project's lock into a store."""

    def __init__(self, project: Project, store: Store, progress: Progress = silent) -> None:
        self._project = project
        self._store = store
        self._progress = progress
        self._sources = Sources(project, store.home)

    def missing(self, lock: Lock) -> list[Locked]:
        """What is not installed, or not with the locked files."""
        return [one for one in lock.packages if not holds(self._store.at(one.package), one)]

    def sync(self, lock: Lock, *, offline: bool = False) -> list[Synced]:
        """Install what is missing, dependencies first.

        Raises:
            Unavailable: something is missing and `offline` was asked for.
            IntegrityError: a source gave other bytes than the locked ones.
        """
        if offline:
            self._check_offline(lock)
        return [self._one(package) for package in in_turn(lock)]

    def _wish(self, package: Locked) -> Wish:
        """What `axon.toml` says of a package: what a lock says may go no further."""
        return self._project.models.get(package.name, Wish())

    def _check_offline(self, lock: Lock) -> None:
        lacking = [str(one.package) for one in self.missing(lock) if not self._wish(one).path]
        if lacking:
            raise Unavailable(
                f"{len(lacking)} packages of the lock are not installed: {', '.join(lacking)}",
                hint="run axon sync without --offline once",
            )

    def _one(self, package: Locked) -> Synced:
        there = self._store.at(package.package)
        if there and holds(there, package):
            return Synced(package, there)
        chosen, spec = self._chosen(package)
        check_source(package, chosen.found)
        check_policy(self._project, chosen, self._store.home)
        done = self._install(package, chosen, spec, replace=there is not None)
        if not holds(done.model, package):  # somebody was faster, with other files
            done = self._install(package, chosen, spec, replace=True)
        return Synced(package, done.model, done.fresh, done.notes)

    def _install(self, package: Locked, chosen: Chosen, spec: Spec, *, replace: bool) -> Installed:
        options = InstallOptions(
            replace=replace,
            allow_pickle=self._wish(package).pickles,
            dependencies=False,
            check=_check_files(package),
        )
        installation = Installation(self._store, options, self._progress, chosen.source)
        if isinstance(spec, PackageSpec):
            asked = {package.name: spec}
            return installation.install_resolution(Resolution((chosen,)), asked)[-1]
        return installation.install([spec])[-1]

    def _chosen(self, package: Locked) -> tuple[Chosen, Spec]:
        wish = self._wish(package)
        spec: Spec = package.package
        if wish.path or wish.url:
            check_named(self._project, package.name, self._store.home)
            spec = self._project.spec(package.name)
            source = adapters.adapter_for(spec, self._store.home)
        else:
            source = self._sources.of_locked(package)
        try:
            found = _pinned(source, spec, package.revision)
        except NotFound as error:
            raise NotFound(
                f"{package.package} is locked, but its source does not have it: {error.message}",
                hint=error.hint or "choose another version: axon update " + package.name,
            ) from error
        return Chosen(package.package, found, source), spec


def _pinned(source: Adapter, spec: Spec, revision: str) -> Resolved:
    """What a source has of a locked package: by its revision, where a version may move."""
    if revision and isinstance(spec, PackageSpec) and isinstance(source, Pins):
        return source.resolve_at(spec, revision)
    return source.resolve(spec)


def in_turn(lock: Lock) -> list[Locked]:
    """The packages of a lock, dependencies before what needs them."""
    by_title = {str(one.package): one for one in lock.packages}
    placed: dict[str, Locked] = {}
    pending = [(title, False) for title in reversed(by_title)]
    entered: set[str] = set()
    while pending:
        title, done = pending.pop()
        if done:
            placed[title] = by_title[title]
        elif title not in entered and title in by_title:
            entered.add(title)
            pending.append((title, True))
            pending += [(one, False) for one in reversed(by_title[title].dependencies)]
    return list(placed.values())


def check_source(package: Locked, found: Resolved) -> None:
    """See, before anything is fetched, that a source offers what was locked.

    Raises:
        IntegrityError: it does not.
    """
    manifest = digest_of(found)
    if package.manifest and manifest != package.manifest:
        raise IntegrityError(
            f"{package.package}: the source's manifest is {manifest or 'gone'}, "
            f"locked is {package.manifest}",
            hint="a published version never changes: ask whoever keeps the source",
        )
    files = listed(found)
    if files is not None:
        _compare(package, files)


def _check_files(package: Locked) -> Callable[[Manifest], None]:
    def check(manifest: Manifest) -> None:
        if manifest.title != str(package.package):
            raise _drifted(package, f"it is {manifest.title} now")
        _compare(package, manifest.spec.format.files)

    return check


def _compare(package: Locked, files: list[ModelFile]) -> None:
    if in_order(files) == package.files:
        return
    now, then = ({file.path: file for file in some} for some in (files, package.files))
    said = [f"{path} is new" for path in sorted(now.keys() - then.keys())]
    said += [f"{path} is missing" for path in sorted(then.keys() - now.keys())]
    said += [
        f"{path} has sha256 {now[path].sha256}, locked is {then[path].sha256}"
        for path in sorted(now.keys() & then.keys())
        if now[path] != then[path]
    ]
    more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    raise _drifted(package, "; ".join(said[:_SHOWN]) + more)


def _drifted(package: Locked, what: str) -> IntegrityError:
    return IntegrityError(
        f"{package.package} is not what was locked: {what}",
        hint="if the new contents are wanted: axon update " + package.name,
    )
