# SPDX-License-Identifier: BUSL-1.1
"""Searching a list of packages in the client, as a registry's server would: for registries
that are files on a web server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from axon_client.remote import Entry, Filters

_SINGLE: Final = ("namespace", "framework", "format", "license")


def search(entries: Sequence[Entry], query: str, filters: Filters) -> list[Entry]:
    """The packages that have every word of the query, the best first."""
    words = re.findall(r"\w+", query.lower())
    scored = [(score(entry, words), entry) for entry in entries if fits(entry, filters)]
    found = [(points, entry) for points, entry in scored if points]
    return [
        e for _, e in sorted(found, key=lambda pair: (-pair[0], pair[1].namespace, pair[1].name))
    ]


def score(entry: Entry, words: Sequence[str]) -> int:
    """How well an entry fits; 0 if it lacks a word. Names count more than descriptions."""
    places = (
        (8, entry.name.lower()),
        (4, " ".join(entry.tags or ()).lower()),
        (2, f"{entry.namespace} {entry.framework} {entry.format}".lower()),
        (1, (entry.description or "").lower()),
    )
    total = 1
    for word in words:
        points = [weight * (2 if word in re.findall(r"\w+", text) else 1)
                  for weight, text in places if word in text]  # fmt: skip
        if not points:
            return 0
        total += max(points)
    return total


def fits(entry: Entry, filters: Filters) -> bool:
    """Whether an entry has what is asked for, in whatever case."""
    wanted = {name: getattr(filters, name).lower() for name in _SINGLE}
    if any(
        value and value != (getattr(entry, name) or "").lower() for name, value in wanted.items()
    ):
        return False
    return {tag.lower() for tag in filters.tags} <= {tag.lower() for tag in entry.tags or ()}


def facets(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """How many entries there are of each namespace, framework, format, licence and tag."""
    found: dict[str, dict[str, int]] = {
        name: dict(Counter(getattr(e, name) for e in entries if getattr(e, name)).most_common())
        for name in _SINGLE
    }
    return found | {"tag": dict(Counter(t for e in entries for t in e.tags or ()).most_common())}
