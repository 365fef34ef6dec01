# SPDX-License-Identifier: BUSL-1.1
"""What the sources offer: versions and exact packages, each asked for once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from axon_client import versions
from axon_client.adapters.base import Adapter, Lists, Resolved, Version
from axon_client.spec import PackageSpec, kind_of
from mlos_core.errors import MlosError, NotFound

SourceOf = Callable[[PackageSpec], Adapter]
LATEST: Final = "latest"
_SHOWN: Final = 8


def allowed(offered: Sequence[Version], selector: str, namespace: str = "") -> list[Version]:
    """The versions that fit a selector, yanked ones among them, the one to take first.

    As with npm, the version tagged `latest` comes before higher ones where it fits, and a
    pre-release fits only a range that names one of its kind.
    """
    named = [v for v in offered if v.version == selector or selector in v.tags]
    return ordered(named or _fitting(offered, selector, namespace), namespace)


def ordered(offered: Sequence[Version], namespace: str, pinned: str = "") -> list[Version]:
    """By preference: the pinned version, the one tagged `latest`, then the highest first."""
    return sorted(
        offered,
        key=lambda v: (v.version == pinned, LATEST in v.tags, versions.key(v.version, namespace)),
        reverse=True,
    )


def _fitting(offered: Sequence[Version], selector: str, namespace: str) -> list[Version]:
    kind = kind_of(selector)
    if kind == "any":
        stable = [v for v in offered if LATEST in v.tags or _stable(v, namespace)]
        return stable or list(offered)
    if kind in ("tag", "digest"):
        return []
    if kind == "exact":
        return [v for v in offered if _same(v.version, selector, namespace)]
    return [v for v in offered if versions.satisfies(v.version, selector, namespace)]


def _stable(version: Version, namespace: str) -> bool:
    return not version.yanked and versions.is_stable(version.version, namespace)


def _same(one: str, other: str, namespace: str) -> bool:
    """Whether two spellings are one version: `1.0.post1` and `1.0.0.post1` to Python.

    A build that is named means that build: a repository's commits differ in nothing else.
    """
    if "+" in other:
        return one == other
    known = versions.parse(one, namespace) and versions.parse(other, namespace)
    return bool(known) and versions.compare(one, other, namespace) == 0


class Offers:
    """The sources' answers of one resolution, each asked for once.

    Args:
        source_of: gives the adapter of a package.
    """

    def __init__(self, source_of: SourceOf) -> None:
        self._source_of = source_of
        self._sources: dict[str, Adapter] = {}
        self._offered: dict[str, list[Version]] = {}
        self._pointed: dict[PackageSpec, Version] = {}
        self._answers: dict[PackageSpec, Resolved] = {}
        self._fitting: dict[tuple[PackageSpec, str, int], list[Version]] = {}

    def source(self, package: PackageSpec) -> Adapter:
        """The adapter that serves a package; it may remember what it was asked."""
        if package.title not in self._sources:
            self._sources[package.title] = self._source_of(package)
        return self._sources[package.title]

    def versions(self, package: PackageSpec) -> list[Version]:
        """All versions of a package that are known, whatever its selector is.

        A source that lists none offers what it made of the selectors so far.
        """
        if package.title not in self._offered:
            source = self.source(package)
            listed = source.versions(package.at("")) if isinstance(source, Lists) else []
            self._offered[package.title] = list(listed)
        return self._offered[package.title]

    def fitting(self, package: PackageSpec, pinned: str = "") -> list[Version]:
        """The versions that fit the package's selector, yanked ones among them.

        What no listed version goes by - a branch, a commit, a digest - is asked of the
        source. A pinned version need not be listed, nor still go by a tag.
        """
        question = (package, pinned, len(self.versions(package)))
        if question not in self._fitting:
            self._fitting[question] = self._fit(package, pinned)
        return self._fitting[question]

    def _fit(self, package: PackageSpec, pinned: str) -> list[Version]:
        found = allowed(self.versions(package), package.version, package.namespace)
        if pinned and self._holds(package, pinned):
            found += [v for v in self.versions(package) if v.version == pinned and v not in found]
        if found or not self._may_know(package):
            return found
        pointed = self._point(package)
        if kind_of(package.version) in ("any", "range"):
            return allowed([pointed], package.version, package.namespace)
        return [pointed]

    def _may_know(self, package: PackageSpec) -> bool:
        lists = isinstance(self.source(package), Lists)
        return not lists or kind_of(package.version) in ("tag", "digest", "exact")

    def _holds(self, package: PackageSpec, pinned: str) -> bool:
        """Whether a pinned version still does for a selector; it is listed then."""
        kind = kind_of(package.version)
        if kind in ("exact", "digest"):
            return False
        if kind == "range" and not versions.satisfies(pinned, package.version, package.namespace):
            return False
        if all(v.version != pinned for v in self.versions(package)):
            try:
                self._point(package.at(pinned))
            except NotFound:
                return False
        return True

    def _point(self, package: PackageSpec) -> Version:
        """The version that the source itself takes the selector for."""
        if package not in self._pointed:
            selector = "" if kind_of(package.version) == "range" else package.version
            found = self.source(package).resolve(package.at(selector))
            exact = found.package or package
            self._answers[exact] = found
            there = [v for v in self.versions(package) if v.version == exact.version]
            if not there:
                there = [Version(exact.version, yanked=found.yanked)]
                self.versions(package).extend(there)
            self._pointed[package] = there[0]
        return self._pointed[package]

    def common(self, wanted: Sequence[PackageSpec], pinned: str = "") -> list[Version]:
        """The versions of one package that fit all of several selectors, by preference.

        One that is yanked is there only if it is pinned, or if a selector is exactly it.
        """
        fitting = [{v.version for v in self.fitting(one, pinned)} for one in wanted]
        exact = any(kind_of(one.version) in ("exact", "digest") for one in wanted)
        found = [
            v
            for v in self.versions(wanted[0])
            if all(v.version in one for one in fitting)
            and (not v.yanked or exact or v.version == pinned)
        ]
        return ordered(found, wanted[0].namespace, pinned)

    def answer(self, exact: PackageSpec) -> Resolved:
        """What the source says of an exact version."""
        if exact not in self._answers:
            self._answers[exact] = self.source(exact).resolve(exact)
        return self._answers[exact]

    def missing(self, package: PackageSpec) -> MlosError:
        """Why no version fits, and which there are."""
        offered, title = self.versions(package), package.title
        there = versions.sort((v.version for v in offered), package.namespace)
        if not there:
            return NotFound(f"{title} has no versions")
        which = f"fits {package.version}" if package.version else "may be chosen"
        return NotFound(
            f"no version of {title} {which}",
            hint=self._hint(package, offered) or f"there are {few(there)}",
        )

    def _hint(self, package: PackageSpec, offered: Sequence[Version]) -> str:
        withdrawn = [v for v in allowed(offered, package.version, package.namespace) if v.yanked]
        if withdrawn:
            high = withdrawn[0]
            exact = package.at(high.version)
            return f"{high.version} was withdrawn: {high.yanked}; to have it all the same: {exact}"
        early = [v.version for v in offered if _early(v.version, package)]
        if early:
            first = versions.sort(early, package.namespace)[0]
            return f"{first} is a pre-release and has to be asked for: {package.at(first)}"
        return ""


def _early(version: str, package: PackageSpec) -> bool:
    """Whether a pre-release would fit if it were the release."""
    parsed = versions.parse(version, package.namespace)
    if parsed is None or not parsed.prerelease or kind_of(package.version) != "range":
        return False
    return versions.satisfies(".".join(map(str, parsed.release[:3])), package.version)


def few(names: Sequence[str]) -> str:
    """The first of many names."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
