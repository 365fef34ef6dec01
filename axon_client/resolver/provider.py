# SPDX-License-Identifier: BUSL-1.1
"""The sources as resolvelib sees them. Only for `resolution`, which loads it when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from resolvelib import AbstractProvider

from axon_client.resolver.offers import Offers
from axon_client.spec import PackageSpec
from mlos_core.errors import NotFound


class Requirement(msgspec.Struct, frozen=True):
    """A package with a selector, and who wants it.

    `path` leads from what the user asked for to the package that has this dependency; it
    is empty for what the user asked for.
    """

    package: PackageSpec
    path: tuple[str, ...] = ()


class Candidate(msgspec.Struct, frozen=True):
    """One exact version, and the way that led to it."""

    package: PackageSpec
    path: tuple[str, ...] = ()


Dependencies = Callable[[PackageSpec], Sequence[PackageSpec]]


class Provider(AbstractProvider[Requirement, Candidate, str]):
    """Answers resolvelib's questions, always in the same order.

    Args:
        dependencies: the specs that an exact package needs.
        pins: by title, the version to stay with as long as it fits.

    Attributes:
        absent: by title, why a source has no such package or no such version.
    """

    def __init__(self, offers: Offers, dependencies: Dependencies, pins: Mapping[str, str]) -> None:
        self._offers = offers
        self._dependencies = dependencies
        self._pins = pins
        self.absent: dict[str, NotFound] = {}

    def identify(self, requirement_or_candidate: Requirement | Candidate) -> str:
        """A package is its title: one version of it at a time."""
        return requirement_or_candidate.package.title

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, Candidate],
        candidates: Mapping[str, Iterator[Candidate]],
        information: Mapping[str, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> tuple[bool, bool, str]:
        """What caused trouble first, then what the user asked for, then by name."""
        blamed = any(
            identifier == known.package.title
            for cause in backtrack_causes
            for known in (cause.requirement, cause.parent)
            if known
        )
        asked = any(not known.requirement.path for known in information[identifier])
        return not blamed, not asked, identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Requirement]],
        incompatibilities: Mapping[str, Iterator[Candidate]],
    ) -> Iterable[Candidate]:
        """The versions that fit every requirement, the one to take first."""
        wanted = list(requirements[identifier])
        refused = {candidate.package.version for candidate in incompatibilities[identifier]}
        packages = [one.package for one in wanted]
        try:
            found = self._offers.common(packages, self._pins.get(identifier, ""))
        except NotFound as error:
            self.absent[identifier] = error
            return []
        path = min((one.path for one in wanted), key=lambda path: (len(path), path))
        return [
            Candidate(packages[0].at(version.version), path)
            for version in found
            if version.version not in refused
        ]

    def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
        """Whether a requirement would take this version."""
        try:
            title = requirement.package.title
            fitting = self._offers.fitting(requirement.package, self._pins.get(title, ""))
        except NotFound as error:
            self.absent[requirement.package.title] = error
            return False
        return any(version.version == candidate.package.version for version in fitting)

    def get_dependencies(self, candidate: Candidate) -> Iterable[Requirement]:
        """What a version needs."""
        path = (*candidate.path, str(candidate.package))
        return [Requirement(needed, path) for needed in self._dependencies(candidate.package)]
