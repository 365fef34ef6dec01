# SPDX-License-Identifier: BUSL-1.1
"""One installation: resolve, fetch into a stage, check, commit.

What is there already costs a look into the store: nothing is asked, hashed or imported for
it. Of processes that install the same package at once one does the work.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from axon_client.models import InstalledModel, execution_files
from axon_client.progress import Progress, silent
from axon_client.satisfied import fits, needs, satisfied, whole
from axon_client.spec import PackageSpec, Spec
from axon_client.store import Store
from mlos_core.errors import ConfigError, InvalidInput, MlosError, OutOfMemory

if TYPE_CHECKING:
    from axon_client.adapters.base import Adapter, Resolved
    from axon_client.manifest import Manifest
    from axon_client.resolver import Chosen, Resolution


class InstallOptions(msgspec.Struct, frozen=True):
    """How to install.

    Attributes:
        replace: put it in the place of what is installed under that name and version, and
            read what the store has of it instead of trusting it.
        rename: install it under this name instead of its own.
        offline: ask nobody; what is installed has to do.
        allow_pickle: accept files that run code when they are opened.
        dependencies: install what it depends on as well.
        format: `auto`, or the format that it must have a model in.
        include: which model files are wanted, where the source leaves that open.
        pins: by `namespace/name`, the version to stay with as long as it fits.
        check: called with each manifest before it is installed; raises to refuse it.
    """

    replace: bool = False
    rename: PackageSpec | None = None
    offline: bool = False
    allow_pickle: bool = False
    dependencies: bool = True
    format: str = "auto"
    include: tuple[str, ...] = ()
    pins: Mapping[str, str] = {}
    check: Callable[[Manifest], None] | None = None


class Installed(msgspec.Struct, frozen=True):
    """What became of one package.

    Attributes:
        fresh: whether it was installed now, instead of being there.
        asked: what the user asked for; None if another package needs it.
        notes: what the user should know: what was chosen, whom nobody vouches for.
    """

    model: InstalledModel
    fresh: bool = False
    asked: Spec | None = None
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether the user asked for it."""
        return self.asked is not None


class Installation:
    """Installs into one store.

    Args:
        adapter: where every package comes from, if not where its namespace says.
    """

    def __init__(
        self,
        store: Store,
        options: InstallOptions,
        progress: Progress = silent,
        adapter: Adapter | None = None,
    ) -> None:
        self.store = store
        self._options = options
        self._progress = progress
        self._adapter = adapter
        self._tried: set[str] = set()
        self._named: set[str] = set()

    def install(self, wanted: list[Spec]) -> list[Installed]:
        """Install what is wanted; see `axon_client.installer.install_all`."""
        if self._options.rename and len(wanted) != 1:
            raise InvalidInput("one name cannot be given to several packages")
        self._named = {spec.title for spec in wanted if isinstance(spec, PackageSpec)}
        with explained(self.store.home):
            there = {spec: self._there(spec) for spec in wanted}
            done = [Installed(model, asked=spec) for spec, model in there.items() if model]
            missing = [spec for spec, model in there.items() if model is None]
            packages = [spec for spec in missing if isinstance(spec, PackageSpec)]
            for spec in missing:
                if not isinstance(spec, PackageSpec):
                    source = self._source(spec)
                    done += self._fetch(spec, source.resolve(spec), source, self._options)
            return done + (self._resolve(packages) if packages else [])

    def install_resolution(
        self, resolution: Resolution, asked: Mapping[str, Spec]
    ) -> list[Installed]:
        """Install the packages of a resolution that are missing, dependencies first.

        Args:
            asked: by `namespace/name`, what the user asked for.
        """
        done: list[Installed] = []
        with explained(self.store.home):
            for one in resolution.packages:
                wish = asked.get(one.package.title)
                if wish or self._options.dependencies:
                    done += self._install(one, wish)
        return done

    def _there(self, spec: Spec) -> InstalledModel | None:
        """What is installed and will do."""
        options = self._options
        chosen = options.replace or options.rename or options.include
        if chosen or not isinstance(spec, PackageSpec):
            return None
        pinned = spec.at(options.pins.get(spec.title, ""))
        pinned = pinned if pinned.version and fits(pinned, spec) else spec
        model = satisfied(self.store, pinned)
        if model is None or (options.dependencies and not whole(self.store, model)):
            return None
        try:
            return _in_format(model, options.format)
        except InvalidInput:
            from axon_client.adapters.base import Chooses

            if isinstance(self._source(spec), Chooses):
                return None  # another variant may have it
            raise

    # What is needed

    def _resolve(self, packages: list[PackageSpec]) -> list[Installed]:
        from axon_client import resolver

        self._tried |= {package.title for package in packages}
        source_of = resolver.stored(self.store.installed()) if self._offline() else self._source
        pins = self._pins(packages)
        resolution = resolver.resolve(packages, source_of=source_of, pins=pins)
        return self.install_resolution(resolution, {one.title: one for one in packages})

    def _pins(self, wanted: list[PackageSpec]) -> dict[str, str]:
        """What is installed stays as it is, if it fits, for what nobody asked for by name."""
        there = {model.spec.title: model.spec.version for model in self.store.installed()}
        named = {package.title for package in wanted}
        kept = {title: version for title, version in there.items() if title not in named}
        return {**kept, **self._options.pins}

    def _offline(self) -> bool:
        from axon_client import config

        return self._options.offline or config.load(self.store.home).offline

    def _source(self, spec: Spec) -> Adapter:
        from axon_client.adapters import adapter_for
        from axon_client.adapters.base import Choice, Chooses

        source = self._adapter or adapter_for(spec, self.store.home)
        # Which files are wanted is said of the packages that were asked for by name.
        asked = not isinstance(spec, PackageSpec) or spec.title in self._named
        include = self._options.include if asked else ()
        if isinstance(source, Chooses):
            formats = () if self._options.format in ("auto", "native") else (self._options.format,)
            chosen = include or (formats if asked else ())
            return source.choosing(Choice(chosen, self._options.allow_pickle))
        if include:
            raise InvalidInput(
                f"{spec} comes from a source whose packages leave no choice of files",
                hint="leave out --include",
            )
        return source

    # One package

    def _install(self, one: Chosen, asked: Spec | None) -> list[Installed]:
        options = self._options
        if not asked:
            options = msgspec.structs.replace(options, replace=False, rename=None, format="auto")
        name = options.rename or one.package
        with self.store.installing(name, self._progress):
            there = None if options.replace or options.rename else self.store.at(one.package)
            if there:
                _in_format(there, options.format)
                return [Installed(there, asked=asked)]
            made = self._commit(one.package, one.found, one.source, options)
        made = msgspec.structs.replace(made, asked=asked)
        return [*self._undeclared(made.model), made]

    def _fetch(
        self, spec: Spec, found: Resolved, source: Adapter, options: InstallOptions
    ) -> list[Installed]:
        made = msgspec.structs.replace(self._commit(spec, found, source, options), asked=spec)
        return [*self._undeclared(made.model), made]

    def _undeclared(self, model: InstalledModel) -> list[Installed]:
        """Install dependencies that only the files of a package told of."""
        if not self._options.dependencies:
            return []
        missing = [
            spec
            for spec in needs(model)
            if spec.title not in self._tried and not satisfied(self.store, spec)
        ]
        found = self._resolve(missing) if missing else []
        return [msgspec.structs.replace(one, asked=None) for one in found]

    def _commit(
        self, spec: Spec, found: Resolved, source: Adapter, options: InstallOptions
    ) -> Installed:
        from axon_client import admission, config

        warning, kept = "", b""
        settings = config.load(self.store.home)
        if isinstance(spec, PackageSpec):
            warning, kept = admission.check_trust(found, spec.namespace, settings, self.store.home)
        admission.check_offer(found, options.format)
        with self.store.stage(distrust=options.replace, allow_pickle=options.allow_pickle) as stage:
            manifest = source.fetch(spec, found, stage, self._progress)
            admission.check_identity(manifest, found.package)
            admission.check_format(execution_files(manifest), options.format, manifest.title)
            admission.check_kept(kept, manifest)
            manifest = admission.check_safe(manifest, stage.files, options.allow_pickle)
            if options.rename:
                manifest = _renamed(manifest, options.rename)
            if not isinstance(spec, PackageSpec) and not _placed(options):
                warning = admission.check_claim(manifest, settings)
            if options.check:
                options.check(manifest)
            model = self.store.commit(
                stage,
                manifest,
                replace=options.replace,
                progress=self._progress,
                extras=admission.extras(manifest, kept),
            )
        return Installed(model, fresh=True, notes=_notes(found, warning))


def _in_format(model: InstalledModel, format: str) -> InstalledModel:
    """The model, if it has the format that was asked for."""
    if format != "auto":
        from axon_client.admission import check_format

        check_format(model.models, format, str(model.spec))
    return model


def _notes(found: Resolved, warning: str) -> tuple[str, ...]:
    withdrawn = f"{found.package} was withdrawn: {found.yanked}" if found.yanked else ""
    return tuple(note for note in (*found.notes, withdrawn, warning) if note)


def _placed(options: InstallOptions) -> bool:
    """Whether the user has said in which namespace a package belongs."""
    return options.rename is not None and bool(options.rename.namespace)


def _renamed(manifest: Manifest, name: PackageSpec) -> Manifest:
    metadata = msgspec.structs.replace(
        manifest.metadata,
        namespace=name.namespace or manifest.metadata.namespace,
        name=name.name,
        version=name.version or manifest.metadata.version,
    )
    return msgspec.structs.replace(manifest, metadata=metadata)


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn what the system says of the store into what the user can do."""
    try:
        yield
    except OSError as error:
        raise _explain(error, home) from error


def _explain(error: OSError, home: Path) -> MlosError:
    where = f"{error.filename or home}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free >> 20
        room = f"{free} MiB are free in {home}; 'axon cache clean' frees what is not installed"
        return OutOfMemory(where, hint=f"{room}, AXON_HOME chooses another folder")
    kind = ConfigError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else InvalidInput
    return kind(where, hint=f"the store is {home}; AXON_HOME chooses another")
