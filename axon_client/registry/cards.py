# SPDX-License-Identifier: BUSL-1.1
"""What search shows of a manifest, and the facets that it counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from axon_client.manifest import Manifest
from axon_client.registry.records import Card

FACETS: Final = ("namespace", "framework", "format", "license", "tag")
_TEXT: Final = 2000
_LABEL: Final = 100
_LABELS: Final = 50


def card_of(manifest: Manifest) -> Card:
    """The short form of a manifest; long texts are cut."""
    about, technical = manifest.metadata, manifest.spec
    form = technical.format
    return Card(
        description=about.description[:_TEXT],
        framework=technical.framework.name[:_LABEL],
        format=(form.execution_format or form.type)[:_LABEL],
        license=about.license[:_LABEL],
        tags=tuple(tag[:_LABEL] for tag in about.tags[:_LABELS] if tag),
        authors=tuple(author.name[:_LABEL] for author in about.authors[:_LABELS]),
    )


def labels(namespace: str, card: Card) -> Iterator[tuple[str, str]]:
    """Pairs of facet and value."""
    single = (namespace, card.framework, card.format, card.license)
    yield from ((facet, value) for facet, value in zip(FACETS, single, strict=False) if value)
    yield from (("tag", tag) for tag in card.tags)
