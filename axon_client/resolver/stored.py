# SPDX-License-Identifier: BUSL-1.1
"""What is installed, as a source: resolving without asking anybody."""

from __future__ import annotations

from collections.abc import Sequence

from axon_client.adapters.base import Adapter, Resolved, Version
from axon_client.manifest import Manifest
from axon_client.models import InstalledModel
from axon_client.progress import Progress
from axon_client.resolver.offers import SourceOf
from axon_client.spec import PackageSpec, Spec
from axon_client.store import Stage
from mlos_core.errors import NotFound, Unavailable

_HINT = "without --offline its source would be asked"


class Stored:
    """The installed models; it lists, resolves, and has nothing to fetch."""

    def __init__(self, installed: Sequence[InstalledModel]) -> None:
        self._models = {str(model.spec): model for model in installed}

    def versions(self, spec: PackageSpec) -> list[Version]:
        """The installed versions of a package."""
        found = [m.spec for m in self._models.values() if m.spec.title == spec.title]
        if not found:
            raise NotFound(f"{spec.title} is not installed", hint=_HINT)
        return [Version(one.version) for one in found]

    def resolve(self, spec: Spec) -> Resolved:
        """An installed version, with the dependencies its manifest names."""
        model = self._models.get(str(spec))
        if model is None:
            raise NotFound(f"{spec} is not installed", hint=_HINT)
        return Resolved(model.spec, dependencies=tuple(model.manifest.spec.dependencies.models))

    def fetch(self, spec: Spec, found: Resolved, stage: Stage, progress: Progress) -> Manifest:
        """Nothing is fetched from here."""
        raise Unavailable(f"{spec} is not installed", hint=_HINT)


def stored(installed: Sequence[InstalledModel]) -> SourceOf:
    """A `source_of` for `resolve` that knows the installed models only."""
    source: Adapter = Stored(installed)
    return lambda package: source
