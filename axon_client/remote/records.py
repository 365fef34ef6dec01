# SPDX-License-Identifier: BUSL-1.1
"""What an axon registry answers. What these types do not know is ignored, so that a newer
registry can say more."""

from __future__ import annotations

import msgspec

from axon_client.adapters.base import Hit


class About(msgspec.Struct, frozen=True):
    """The registry itself. `static`: files on a web server; the client searches.

    `original`: one that knows search, manifests and archives only.
    """

    name: str = ""
    version: str = ""
    static: bool = False
    namespaces: list[str] = []
    original: bool = False


class Release(msgspec.Struct, frozen=True):
    """One version in a package's index. `yanked` is the reason, or None."""

    version: str
    manifest_sha256: str = ""
    created: str = ""
    yanked: str | None = None
    size: int = -1


class Index(msgspec.Struct, frozen=True):
    """A package: its versions and tags."""

    namespace: str
    name: str
    description: str = ""
    tags: dict[str, str] = {}
    versions: list[Release] = []


class Detail(msgspec.Struct, frozen=True):
    """What is known of a version beside its manifest."""

    version: str
    manifest_sha256: str = ""
    signatures: list[dict[str, str]] = []
    yanked: str | None = None
    created: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A package as search shows it; `version` is its latest."""

    name: str
    namespace: str
    version: str = ""
    description: str | None = ""
    framework: str | None = ""
    format: str = ""
    license: str = ""
    tags: list[str] | None = []
    size: int = -1
    created: str = ""

    @property
    def hit(self) -> Hit:
        """The same, as every source gives it."""
        return Hit(
            self.namespace,
            self.name,
            self.version,
            self.description or "",
            self.framework or "",
            tuple(self.tags or ()),
            self.license,
            self.size,
        )


class Filters(msgspec.Struct, frozen=True):
    """What hits must have beside fitting the query; empty is anything."""

    namespace: str = ""
    framework: str = ""
    format: str = ""
    license: str = ""
    tags: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """As a query."""
        single = [(name, getattr(self, name)) for name in self.__struct_fields__[:-1]]
        return [pair for pair in single if pair[1]] + [("tag", tag) for tag in self.tags]


class Identity(msgspec.Struct, frozen=True):
    """Whom the registry takes us for."""

    name: str = ""
    scopes: list[str] = []
