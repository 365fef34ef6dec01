# SPDX-License-Identifier: BUSL-1.1
"""What is installed already, found without asking a source and without reading a file."""

from __future__ import annotations

from axon_client import versions
from axon_client.models import InstalledModel
from axon_client.spec import PackageSpec, kind_of, parse
from axon_client.store import Store
from mlos_core.errors import InvalidInput


def satisfied(store: Store, spec: PackageSpec) -> InstalledModel | None:
    """The installed model that a spec means: the version itself, or the best of a range.

    A tag or a digest has to be asked for: what it means may have changed.
    """
    exact = store.at(spec) if spec.version else None
    kind = kind_of(spec.version)
    if exact or kind not in ("any", "range"):
        return exact
    there = {model.spec.version: model for model in store.versions(spec)}
    chosen = versions.best(there, spec.version, spec.namespace)
    if chosen is None and kind == "any" and there:
        chosen = versions.sort(there, spec.namespace)[0]  # pre-releases, or commits
    return there[chosen] if chosen else None


def fits(exact: PackageSpec, need: PackageSpec) -> bool:
    """Whether an exact package is one that `need` may mean.

    What a tag or a digest means is not known here, so every version may be it.
    """
    if exact.title != need.title:
        return False
    if exact.version == need.version or kind_of(need.version) in ("any", "tag", "digest"):
        return True
    return versions.satisfies(exact.version, need.version, exact.namespace)


def needs(model: InstalledModel) -> list[PackageSpec]:
    """What an installed model depends on.

    Raises:
        InvalidInput: its manifest is damaged, or a dependency is no package spec.
    """
    specs = [parse(text) for text in model.manifest.spec.dependencies.models]
    return [spec for spec in specs if isinstance(spec, PackageSpec)]


def whole(store: Store, model: InstalledModel) -> bool:
    """Whether everything that a model depends on is installed as well."""
    seen, waiting = set(), [model]
    while waiting:
        one = waiting.pop()
        if one.spec in seen:
            continue
        seen.add(one.spec)
        try:
            found = [satisfied(store, spec) for spec in needs(one)]
        except InvalidInput:
            return False
        there = [need for need in found if need is not None]
        if len(there) < len(found):
            return False
        waiting += there
    return True
