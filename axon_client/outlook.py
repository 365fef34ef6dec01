# SPDX-License-Identifier: BUSL-1.1
"""Which newer versions there are of what one has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from axon_client import versions
from axon_client.models import InstalledModel
from axon_client.resolver import Offers, SourceOf
from axon_client.spec import PackageSpec, kind_of
from mlos_core.errors import MlosError, NotFound

LOCAL = "local"
UNVERSIONED = "0.0.0"


class Outlook(msgspec.Struct, frozen=True):
    """One package.

    Attributes:
        current: the version that is locked or installed; empty if none is.
        wanted: the highest one that the wish for it allows.
        latest: the one that the source would give without a wish.
        problem: why that is not known.
    """

    package: str
    current: str
    wanted: str = ""
    latest: str = ""
    problem: MlosError | None = None

    @property
    def outdated(self) -> bool:
        """Whether there is anything else to have."""
        return self.problem is None and {self.current} != {self.wanted, self.latest}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        about: dict[str, Any] = {"package": self.package, "current": self.current}
        if self.problem is not None:
            code, message = self.problem.code, self.problem.message
            return about | {"error": {"code": code, "message": message}}
        return about | {"wanted": self.wanted, "latest": self.latest}


def look(package: PackageSpec, current: str, source_of: SourceOf) -> Outlook:
    """Ask a package's source; `package.version` is the wish. What goes wrong is in the answer."""
    offers = Offers(source_of)
    try:
        wanted = newest(offers, package, current)
        latest = newest(offers, package.at(""), current)
    except MlosError as error:
        return Outlook(package.title, current, problem=error)
    return Outlook(package.title, current, wanted, latest)


def newest(offers: Offers, package: PackageSpec, current: str) -> str:
    """The version that a selector means now; `current` if there is none that fits.

    A version that fits as well and is higher than what the source calls its latest is kept.
    """
    found = offers.common([package])
    if not found and not package.version:
        raise NotFound(f"{package.title} has no versions")
    best = found[0].version if found else current
    ahead = versions.compare(current, best, package.namespace) > 0
    return current if ahead and _may_stay(current, package) else best


def _may_stay(current: str, package: PackageSpec) -> bool:
    if not versions.is_stable(current, package.namespace) or current.startswith(UNVERSIONED):
        return False
    kind = kind_of(package.version)
    fits = kind == "range" and versions.satisfies(current, package.version, package.namespace)
    return kind == "any" or fits


def compatible(version: str, namespace: str = "") -> str:
    """The range of versions that what uses this one should get along with: `^1.2.3`.

    Empty, which is any version, where the version says nothing of that: a commit.
    """
    read = versions.parse(version, namespace)
    if read is None or read.epoch or version.partition("+")[0] == UNVERSIONED:
        return ""
    if versions.is_semantic(version):
        return "^" + version.partition("+")[0]
    return "^" + ".".join(map(str, read.release[:3]))


def current_ones(installed: Iterable[InstalledModel]) -> list[PackageSpec]:
    """The highest installed version of each package that has a source, by name."""
    found: dict[str, list[PackageSpec]] = {}
    for model in installed:
        if model.spec.namespace != LOCAL:
            found.setdefault(model.spec.title, []).append(model.spec)
    return [_highest(specs) for _, specs in sorted(found.items())]


def _highest(specs: Sequence[PackageSpec]) -> PackageSpec:
    return max(specs, key=lambda spec: versions.key(spec.version, spec.namespace))
