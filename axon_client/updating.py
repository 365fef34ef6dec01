# SPDX-License-Identifier: BUSL-1.1
"""Taking newer versions of what is installed, where there is no project to say which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from axon_client import adapters, resolver, versions
from axon_client.adapters.base import Adapter, Choice, Chooses
from axon_client.catalog import find
from axon_client.installation import Installation, InstallOptions
from axon_client.models import InstalledModel
from axon_client.outlook import LOCAL, UNVERSIONED, Outlook, compatible, current_ones, look
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec, kind_of, parse_name
from axon_client.store import Store
from mlos_core.errors import InvalidInput, MlosError, NotFound


class Move(msgspec.Struct, frozen=True):
    """A package that goes from its installed version to another one."""

    before: PackageSpec
    after: PackageSpec

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "package": self.before.title,
            "before": self.before.version,
            "after": self.after.version,
        }


def source_of(current: PackageSpec, store: Store) -> resolver.SourceOf:
    """The adapters, choosing the variant of `current` again where it is one of several."""
    variant = variant_of(current.version)

    def source(package: PackageSpec) -> Adapter:
        found = adapters.adapter_for(package, store.home)
        if variant and package.title == current.title and isinstance(found, Chooses):
            return found.choosing(Choice(include=(variant,)))
        return found

    return source


def variant_of(version: str) -> str:
    """The label of a variant in a version: `q8-0` in `1.2.0+q8-0` and `0.0.0+<commit>.q8-0`."""
    number, _, build = version.partition("+")
    return build.partition(".")[2] if number == UNVERSIONED else build


def updatable(store: Store) -> list[PackageSpec]:
    """The highest installed version of each package that has a source to ask, by name."""
    return [spec for spec in current_ones(store.installed()) if _has_source(spec, store)]


def _has_source(spec: PackageSpec, store: Store) -> bool:
    try:
        adapters.adapter_for(spec, store.home)
    except NotFound:
        return False  # it came out of an archive, or its registry was removed
    return True


def outlook(current: PackageSpec, store: Store) -> Outlook:
    """What there is of an installed package."""
    wish = compatible(current.version, current.namespace)
    return look(current.at(wish), current.version, source_of(current, store))


def chosen(texts: Sequence[str], store: Store) -> list[PackageSpec]:
    """The installed packages that a user names, with the selectors given; all if none is.

    Raises:
        NotFound, InvalidInput: a name means none or several; or it has no source.
    """
    if not texts:
        return [spec.at("") for spec in updatable(store)]
    installed = store.installed()
    newest = {spec.title: spec for spec in current_ones(installed)}
    found = []
    for text in texts:
        wanted = parse_name(text)
        there = [model for model in installed if model.spec == newest.get(model.spec.title)]
        spec = find(wanted.title, there or installed).spec
        if spec.namespace == LOCAL:
            raise InvalidInput(f"{spec} came from a folder", hint="install that folder again")
        found.append(spec.at(wanted.version))
    return found


def newest_installed(store: Store, package: PackageSpec) -> InstalledModel:
    """The highest installed version of a package that is installed."""
    (newest,) = current_ones(store.versions(package))
    return InstalledModel(newest, store.folder(newest))


def plan(
    wanted: Iterable[PackageSpec], store: Store, *, latest: bool = False
) -> tuple[list[Move], list[MlosError]]:
    """Which versions to go to, and why that is not known of some packages.

    Args:
        wanted: installed packages; with a selector where the user gave one.
        latest: also versions that are not compatible with the installed one.
    """
    newest = {spec.title: spec for spec in current_ones(store.installed())}
    moves, problems = [], []
    for package in wanted:
        current = newest[package.title]
        wish = package.version or ("" if latest else compatible(current.version, package.namespace))
        seen = look(package.at(wish), current.version, source_of(current, store))
        if seen.problem:
            problems.append(seen.problem)
            continue
        exact = kind_of(package.version) in ("exact", "digest", "tag")
        if _is_newer(seen.wanted, current, exact):
            moves.append(Move(current, package.at(seen.wanted)))
    return moves, problems


def _is_newer(version: str, current: PackageSpec, exact: bool) -> bool:
    if version == current.version:
        return False
    unordered = current.version.startswith(UNVERSIONED)
    return exact or unordered or versions.compare(version, current.version, current.namespace) > 0


def carry_out(
    moves: Iterable[Move], store: Store, progress: Progress = silent
) -> list[InstalledModel]:
    """Install the new versions beside the old ones, with what they depend on."""
    made = []
    for move in moves:
        source = source_of(move.before, store)
        resolution = resolver.resolve([move.after], source_of=source)
        pickled = _pickled(store.at(move.before))
        installation = Installation(store, InstallOptions(allow_pickle=pickled), progress)
        done = installation.install_resolution(resolution, {move.after.title: move.after})
        made += [one.model for one in done if one.wanted]
    return made


def _pickled(model: InstalledModel | None) -> bool:
    """Whether the user has allowed pickles for this package before."""
    return model is not None and model.manifest.spec.format.pickled


__all__ = ["Move", "carry_out", "chosen", "newest_installed", "outlook", "plan", "updatable"]
