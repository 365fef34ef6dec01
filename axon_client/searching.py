# SPDX-License-Identifier: BUSL-1.1
"""Searching several sources at once; one that fails does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from axon_client import adapters, config
from axon_client.adapters import catalogue
from axon_client.adapters.base import Adapter, Hit, Narrows, Searches
from axon_client.adapters.registry import RegistryAdapter
from axon_client.config import Config
from axon_client.remote import Entry, Filters
from mlos_core.errors import MlosError, NotFound, Unsupported

PUBLIC: Final = "hf"
"""What is searched where no registry is configured."""
_WIDER: Final = 4
"""A source that knows no filters is asked for so many times more, and filtered here."""

Facets = dict[str, dict[str, int]]


class Found(msgspec.Struct, frozen=True):
    """What one source answered: hits, how many there are in all, or why it failed."""

    source: str
    entries: list[Entry] = []
    total: int = 0
    facets: Facets = {}
    failure: MlosError | None = None


def chosen(
    registries: Sequence[str], sources: Sequence[str], settings: Config, home: Path | None = None
) -> dict[str, Callable[[], Adapter]]:
    """What makes each source that is to be searched, by its name.

    Without a choice these are the configured registries: a query may be nobody else's
    business. Where there are none it is the public hub. OCI registries know no search.

    Raises:
        NotFound: a registry or source of that name does not exist.
    """
    if not registries and not sources:
        registries = [name for name, entry in settings.registries.items() if entry.kind != "oci"]
        sources = [] if registries else [PUBLIC]
    made: dict[str, Callable[[], Adapter]] = {}
    for name in registries:
        made[name] = _registry(name, settings, home)
    for name in sources:
        made[name] = _source(name, home)
    return made


def _registry(name: str, settings: Config, home: Path | None) -> Callable[[], Adapter]:
    if "://" in name:
        return lambda: RegistryAdapter(name, home)
    if name not in settings.registries:
        hint = config.suggest(name, settings.registries) or "axon registry add NAME URL"
        raise NotFound(f"there is no registry {name!r}", hint=hint)
    return lambda: adapters.registry_adapter(name, settings, home)


def _source(name: str, home: Path | None) -> Callable[[], Adapter]:
    known = [*adapters.BUILT_IN, *adapters.outside_sources()]
    if name not in known:
        raise NotFound(f"there is no source {name!r}", hint=config.suggest(name, known))
    return lambda: adapters.source(name, home)


def search(
    made: Mapping[str, Callable[[], Adapter]],
    query: str,
    filters: Filters,
    limit: int,
    *,
    facets: bool = False,
) -> list[Found]:
    """Ask every source, at most `limit` hits each."""

    def one(name: str) -> Found:
        try:
            return _ask(name, made[name](), query, filters, limit, facets)
        except MlosError as error:
            return Found(name, failure=error)

    with ThreadPoolExecutor(max(1, min(8, len(made)))) as pool:
        return list(pool.map(one, made))


def _ask(
    name: str, source: Adapter, query: str, filters: Filters, limit: int, facets: bool
) -> Found:
    if isinstance(source, RegistryAdapter):
        entries, total = source.find(query, filters, limit)
        counted = source.facets(query, filters) if facets else {}
        return Found(name, entries, total, counted)
    if not isinstance(source, Searches):
        raise Unsupported(
            f"{name} cannot be searched", hint=f"install by name: axon install {name}/NAME"
        )
    narrow = filters != Filters()
    if isinstance(source, Narrows):
        asked = dict(filters.parameters)
        asked.pop("namespace", None)
        query = source.narrowed(query, asked)
    hits = source.search(query, min(1000, limit * _WIDER) if narrow else limit)
    fitting = [entry for entry in map(_entry, hits) if fits(entry, filters)]
    counted = catalogue.facets(fitting) if facets else {}
    return Found(name, fitting[:limit], len(fitting), counted)


def _entry(hit: Hit) -> Entry:
    return Entry(
        name=hit.name,
        namespace=hit.namespace,
        version=hit.version,
        description=hit.description,
        framework=hit.framework,
        license=hit.license,
        tags=list(hit.tags),
        size=hit.size,
    )


def fits(entry: Entry, filters: Filters) -> bool:
    """Whether a hit of another source has what is asked for; its format is among its tags."""
    tags = {tag.lower() for tag in entry.tags or ()}
    if filters.format and filters.format.lower() not in tags | {(entry.framework or "").lower()}:
        return False
    return catalogue.fits(entry, msgspec.structs.replace(filters, format=""))
