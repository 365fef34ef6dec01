# SPDX-License-Identifier: BUSL-1.1
"""Resolving: one version of every package that is needed, or why there is none.

The answer depends on nothing but the question and what the sources offer: packages are
looked at in the order of their names, versions by preference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from axon_client import adapters
from axon_client import manifest as manifests
from axon_client.adapters.base import Adapter, Resolved
from axon_client.resolver.explain import explain
from axon_client.resolver.offers import Offers, SourceOf
from axon_client.spec import PackageSpec, parse
from mlos_core.errors import InvalidInput, MlosError

MAX_DEPENDENCIES: Final = 256
MAX_PACKAGES: Final = 1000
_MAX_ROUNDS: Final = 5_000


class Chosen(msgspec.Struct, frozen=True):
    """One package of a resolution.

    Attributes:
        package: with its exact version.
        found: what its source says of it.
        source: where it comes from.
        dependencies: the exact packages it needs, by name.
    """

    package: PackageSpec
    found: Resolved
    source: Adapter
    dependencies: tuple[PackageSpec, ...] = ()


class Resolution(msgspec.Struct, frozen=True):
    """Every package that is needed, dependencies before what needs them."""

    packages: tuple[Chosen, ...] = ()

    def get(self, title: str) -> Chosen | None:
        """The package called `namespace/name`."""
        return next((one for one in self.packages if one.package.title == title), None)


def resolve(
    wanted: Iterable[PackageSpec],
    *,
    source_of: SourceOf = adapters.adapter_for,
    pins: Mapping[str, str] | None = None,
    asker: str = "you",
) -> Resolution:
    """Find one version of each package that `wanted` names and that those need.

    Args:
        wanted: packages with selectors.
        source_of: gives the adapter of a package.
        pins: by `namespace/name`, the version to stay with as long as it fits.
        asker: whose wish `wanted` is, as explanations call it.

    Raises:
        NotFound: a package, or a version of it that fits, does not exist.
        InvalidInput: wishes exclude each other, or a dependency is no spec; says whose.
        Unavailable: a source cannot be reached.
    """
    import resolvelib  # late: not every command resolves

    from axon_client.resolver.provider import Candidate, Provider, Requirement

    offers = Offers(source_of)
    roots = [Requirement(one) for one in sorted(wanted, key=str)]
    provider = Provider(offers, lambda package: _needed(offers, package), pins or {})
    reporter: resolvelib.BaseReporter[Requirement, Candidate, str] = resolvelib.BaseReporter()
    solver = resolvelib.Resolver(provider, reporter)
    try:
        result = solver.resolve(roots, max_rounds=_MAX_ROUNDS)
    except resolvelib.ResolutionImpossible as error:
        wishes = [cause.requirement for cause in error.causes]
        raise explain(wishes, offers, provider.absent, asker) from error
    except resolvelib.ResolutionTooDeep as error:
        raise InvalidInput(
            f"no set of versions was found in {_MAX_ROUNDS} attempts",
            hint="name exact versions of some of the packages",
        ) from error
    return _in_order(offers, {title: one.package for title, one in result.mapping.items()})


def _needed(offers: Offers, package: PackageSpec) -> list[PackageSpec]:
    """What a package needs, as its source or its published manifest says.

    Raises:
        InvalidInput: a dependency is no package spec, or there are too many.
    """
    found = offers.answer(package)
    texts: Sequence[str] = found.dependencies
    if not texts and found.manifest:
        manifest = manifests.decode(found.manifest, source=str(package))
        texts = manifest.spec.dependencies.models
    if len(texts) > MAX_DEPENDENCIES:
        raise InvalidInput(f"{package} names {len(texts)} dependencies; {MAX_DEPENDENCIES} may be")
    return [_dependency(package, text) for text in texts]


def _dependency(package: PackageSpec, text: str) -> PackageSpec:
    try:
        spec = parse(text)
    except MlosError as error:
        raise InvalidInput(
            f"{package} has a dependency that is none: {error.message}",
            hint="tell whoever published it; another version may be sound",
        ) from error
    if not isinstance(spec, PackageSpec):
        raise InvalidInput(f"{package} depends on {text!r}, which no other machine can find")
    return spec


def _in_order(offers: Offers, chosen: Mapping[str, PackageSpec]) -> Resolution:
    """Dependencies first; what depends on each other in a circle comes by name."""
    if len(chosen) > MAX_PACKAGES:
        raise InvalidInput(f"{len(chosen)} packages are needed; {MAX_PACKAGES} may be")
    needs = {
        title: sorted({one.title for one in _needed(offers, package)})
        for title, package in chosen.items()
    }
    placed: dict[str, Chosen] = {}
    pending = [(title, False) for title in sorted(chosen, reverse=True)]
    entered: set[str] = set()
    while pending:
        title, done = pending.pop()
        if done:
            package = chosen[title]
            below = tuple(chosen[one] for one in needs[title])
            placed[title] = Chosen(package, offers.answer(package), offers.source(package), below)
        elif title not in entered:
            entered.add(title)
            pending.append((title, True))
            pending += [(one, False) for one in reversed(needs[title])]
    return Resolution(tuple(placed.values()))
