# SPDX-License-Identifier: BUSL-1.1
"""Why nothing fits: who wants what, and by way of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from axon_client import versions
from axon_client.resolver.offers import Offers, few
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, MlosError, NotFound

_MOST_WISHES: Final = 8


class Wish(Protocol):
    """A package with a selector, and the packages that lead to whoever has this wish."""

    @property
    def package(self) -> PackageSpec:
        """What is wanted."""
        ...

    @property
    def path(self) -> tuple[str, ...]:
        """From what the user asked for to the package with this dependency."""
        ...


def explain(
    wishes: Sequence[Wish], offers: Offers, absent: Mapping[str, NotFound], asker: str
) -> MlosError:
    """The error for wishes that no set of versions fulfils."""
    unique = {(str(one.package), one.path): one for one in wishes}
    groups: dict[str, list[Wish]] = {}
    for _, wish in sorted(unique.items()):
        groups.setdefault(wish.package.title, []).append(wish)
    for title, group in groups.items():
        for wish in group:
            if title in absent or not offers.common([wish.package]):
                return _missing(wish, absent.get(title) or offers.missing(wish.package))
    title, group = max(groups.items(), key=lambda item: (len(item[1]), item[0]))
    said = "; ".join(_who(wish, asker) for wish in group[:_MOST_WISHES])
    there = versions.sort(
        (v.version for v in offers.versions(group[0].package)), title.split("/")[0]
    )
    return InvalidInput(
        f"no version of {title} suits everybody: {said}",
        hint=f"there are {few(there)}; loosen one of these wishes, or choose another version "
        "of what has it",
    )


def _missing(wish: Wish, error: MlosError) -> MlosError:
    if not wish.path:
        return error
    return type(error)(f"{error.message}, which {_chain(wish.path)} needs", hint=error.hint)


def _who(wish: Wish, asker: str) -> str:
    selector = wish.package.version or "any version"
    if not wish.path:
        return f"{asker} {'want' if asker == 'you' else 'wants'} {selector}"
    return f"{_chain(wish.path)} wants {selector}"


def _chain(path: Sequence[str]) -> str:
    """`c@1 (by way of b@1, which a@1 needs)`: the nearest first."""
    *before, last = path
    if not before:
        return last
    way = before[-1] + "".join(f", which {one} needs" for one in reversed(before[:-1]))
    return f"{last} (by way of {way})"
