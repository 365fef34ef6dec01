# SPDX-License-Identifier: BUSL-1.1
"""Where a project's packages come from: its own registries first, then the user's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from axon_client import adapters, config
from axon_client.adapters.base import Adapter, Choice, Chooses, Resolved, Version
from axon_client.config import RESERVED, Config
from axon_client.manifest import Manifest
from axon_client.progress import Progress
from axon_client.project.locked import Locked, Origin
from axon_client.project.settings import FILE_NAME, Project, Wish
from axon_client.resolver import Chosen
from axon_client.spec import PackageSpec, Spec
from axon_client.store import Stage
from mlos_core.errors import ConfigError, Unsupported


class Sources:
    """The adapters of a project's packages.

    Args:
        home: the store's folder, which has the user's settings.
        fixed: by `namespace/name`, packages whose version is settled, such as a folder's.
    """

    def __init__(
        self, project: Project, home: Path, fixed: Mapping[str, Adapter] | None = None
    ) -> None:
        self._project = project
        self._home = home
        self._fixed = fixed or {}
        self._known: dict[str, Adapter] = {}

    def __call__(self, package: PackageSpec) -> Adapter:
        """The adapter of a package, with the choice of files that the project makes."""
        if package.title in self._fixed:
            return self._fixed[package.title]
        wish = self._project.models.get(package.title, Wish())
        return chosen(self._plain(package.namespace), package.title, wish.include, wish.pickles)

    def _plain(self, namespace: str) -> Adapter:
        if namespace not in self._known:
            self._known[namespace] = self._find(namespace)
        return self._known[namespace]

    def _find(self, namespace: str) -> Adapter:
        name = self._own_registry(namespace)
        if name:
            self._check_own(name, namespace)
            settings = Config(registries=dict(self._project.registries))
            return adapters.registry_adapter(name, settings, self._home)
        return adapters.source(namespace, self._home)

    def _own_registry(self, namespace: str) -> str:
        for name, registry in self._project.registries.items():
            serves = registry.namespaces if registry.kind == "axon" else [name]
            if namespace in serves:
                return name
        return ""

    def _check_own(self, name: str, namespace: str) -> None:
        """A project may be anybody's: it does not say where the user's namespaces come from.

        The store is one for all projects, so what came from elsewhere would be taken for the
        user's own everywhere.

        Raises:
            ConfigError: the user's settings have another registry for that namespace.
        """
        settings = msgspec.structs.replace(config.load(self._home), default_registry="")
        claimed = adapters.registry_of(namespace, settings)
        if not claimed:
            return
        theirs, ours = self._project.registries[name], settings.registries[claimed]
        if (theirs.kind, theirs.url.rstrip("/")) != (ours.kind, ours.url.rstrip("/")):
            raise ConfigError(
                f"{self._project.root / FILE_NAME} takes {namespace!r} from {theirs.url}, "
                f"your settings take it from {ours.url}",
                hint=f"change one of them; yours with: axon registry remove {claimed}",
            )

    def origin(self, package: PackageSpec) -> Origin:
        """Where a package comes from, as a lock says it."""
        namespace = package.namespace
        name, known = self._own_registry(namespace), dict(self._project.registries)
        if not name and namespace not in adapters.BUILT_IN:
            settings = config.load(self._home)
            outside = adapters.outside_sources()
            name = "" if namespace in outside else adapters.registry_of(namespace, settings)
            known = settings.registries
        if name and known[name].kind == "axon":
            return Origin(registry=known[name].url)
        return Origin(namespace=namespace)

    def of_locked(self, package: Locked) -> Adapter:
        """The adapter of a locked package.

        A registry that this machine has no settings for is the one that the lock names.
        """
        namespace = package.package.namespace
        settings = config.load(self._home)
        unknown = (
            package.origin.registry
            and not self._own_registry(namespace)
            and namespace not in adapters.outside_sources()
            and not adapters.registry_of(namespace, settings)
        )
        if unknown:
            from axon_client.adapters.registry import RegistryAdapter

            return RegistryAdapter(package.origin.registry, self._home)
        wish = self._project.models.get(package.name, Wish())
        return chosen(self._plain(namespace), package.name, package.include, wish.pickles)


def check_named(project: Project, title: str, home: Path) -> None:
    """See that what a path or URL of a project is called is nobody else's name.

    It is installed in the place of what has that name, for all projects: one that somebody
    else wrote could put its own files under a name of the package index, or of the user's
    registry.

    Raises:
        ConfigError: a source or one of the user's registries serves the namespace.
    """
    namespace = title.partition("/")[0]
    settings = msgspec.structs.replace(config.load(home), default_registry="")
    others = (RESERVED - {"local", "https"}) | set(adapters.outside_sources())
    if namespace in others or adapters.registry_of(namespace, settings):
        raise ConfigError(
            f"{project.root / FILE_NAME}: {title} is called like a package of {namespace}/, "
            "which a path or URL is not",
            hint="call it local/NAME there and in its manifest",
        )


def chosen(source: Adapter, title: str, include: list[str], pickles: bool) -> Adapter:
    """A source that takes the files that were chosen.

    Raises:
        Unsupported: the source leaves no choice.
    """
    if isinstance(source, Chooses) and (include or pickles):
        return source.choosing(Choice(tuple(include), pickles))
    if include:
        raise Unsupported(
            f"{title} comes from a source without variants", hint="leave out 'include'"
        )
    return source


def check_policy(project: Project, one: Chosen, home: Path) -> None:
    """Hold a package against the policy of the project's own registry.

    What the user's settings ask for is checked at every installation, besides this.

    Raises:
        PermissionDenied: nobody trusted vouches for it, and the policy requires that.
    """
    if project.registries:
        from axon_client.admission import check_trust

        settings = Config(registries=dict(project.registries))
        check_trust(one.found, one.package.namespace, settings, home)


class Settled:
    """A package whose version and files are known already: one that a path or URL names."""

    def __init__(self, package: PackageSpec, dependencies: tuple[str, ...]) -> None:
        self._found = Resolved(package, dependencies=dependencies)
        self._package = package

    def versions(self, spec: PackageSpec) -> list[Version]:
        """The one there is."""
        return [Version(self._package.version)]

    def resolve(self, spec: Spec) -> Resolved:
        """The one there is."""
        return self._found

    def fetch(self, spec: Spec, found: Resolved, stage: Stage, progress: Progress) -> Manifest:
        """It has been installed before."""
        raise Unsupported(f"{self._package} is not fetched")
