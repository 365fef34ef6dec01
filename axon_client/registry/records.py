# SPDX-License-Identifier: BUSL-1.1
"""What the registry's database takes and gives. Sizes in bytes, times in ISO 8601, UTC."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from axon_client.manifest import ModelFile

LATEST = "latest"


class Card(msgspec.Struct, frozen=True):
    """What search knows of a version."""

    description: str = ""
    framework: str = ""
    format: str = ""
    license: str = ""
    tags: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()


class Release(msgspec.Struct, frozen=True):
    """A version that is to be published: its manifest's exact bytes, and what they say."""

    namespace: str
    name: str
    version: str
    manifest: bytes
    manifest_sha256: str
    card: Card = Card()
    files: tuple[ModelFile, ...] = ()
    dependencies: tuple[str, ...] = ()
    signatures: tuple[dict[str, str], ...] = ()
    publisher: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def title(self) -> str:
        """`namespace/name@version`."""
        return f"{self.namespace}/{self.name}@{self.version}"


class VersionRow(msgspec.Struct, frozen=True):
    """One version in a package's index. `yanked` is the reason, or None if it is sound."""

    version: str
    manifest_sha256: str
    created: str
    yanked: str | None
    size: int


class PackageIndex(msgspec.Struct, frozen=True):
    """A package: its versions, the highest first, and its tags."""

    namespace: str
    name: str
    description: str
    tags: dict[str, str]
    versions: list[VersionRow]


class VersionDetail(msgspec.Struct, frozen=True):
    """Everything but the manifest that is known of a version."""

    version: str
    manifest_sha256: str
    signatures: list[dict[str, str]]
    yanked: str | None
    dependencies: list[str]
    files: list[ModelFile]
    created: str
    size: int


class Entry(msgspec.Struct, frozen=True):
    """A package as search shows it; `version` is its `latest`."""

    namespace: str
    name: str
    version: str
    description: str
    framework: str
    format: str
    license: str
    tags: list[str]
    size: int
    created: str


class Document(msgspec.Struct, frozen=True):
    """A manifest of another kind, as it was pushed; `digest` is `sha256:<hex>` of `body`."""

    digest: str
    media_type: str
    body: bytes
    created: str


def utc_now() -> str:
    """The time as every table has it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_json(text: str) -> Any:
    """The value of a column that holds JSON."""
    return msgspec.json.decode(text)


def to_json(value: Any) -> str:
    """A value for a column that holds JSON."""
    return msgspec.json.encode(value).decode()
