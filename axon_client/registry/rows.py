# SPDX-License-Identifier: BUSL-1.1
"""Single rows of a registry's tables, inside a transaction that the caller holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from axon_client.manifest import ModelFile
from axon_client.registry.records import from_json, to_json
from mlos_core.errors import InvalidInput, NotFound

MAX_TAGS: Final = 100
MAX_SIGNATURES: Final = 16


def package_row(connection: sqlite3.Connection, namespace: str, name: str) -> sqlite3.Row:
    """A package's row.

    Raises:
        NotFound: there is none.
    """
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, description FROM packages WHERE namespace = ? AND name = ?", (namespace, name)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no package {namespace}/{name}")
    return row


def find_version(connection: sqlite3.Connection, package: int, version: str) -> sqlite3.Row | None:
    """A version's row, if there is one."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM versions WHERE package = ? AND version = ?", (package, version)
    ).fetchone()
    return row


def version_row(
    connection: sqlite3.Connection, namespace: str, name: str, version: str
) -> sqlite3.Row:
    """A version's row.

    Raises:
        NotFound: there is none.
    """
    package = package_row(connection, namespace, name)
    row = find_version(connection, package["id"], version)
    if row is None:
        raise NotFound(f"there is no version {version[:128]!r} of {namespace}/{name}")
    return row


def files_of(connection: sqlite3.Connection, version: int) -> list[ModelFile]:
    """A version's files, by path."""
    rows = connection.execute(
        "SELECT path, size, sha256 FROM files WHERE version = ? ORDER BY path", (version,)
    )
    return [ModelFile(*row) for row in rows]


def set_tag(connection: sqlite3.Connection, package: int, tag: str, version: str) -> None:
    """Let a tag name a version.

    Raises:
        InvalidInput: the package has too many.
    """
    connection.execute(
        "INSERT INTO tags (package, tag, version, by_hand) VALUES (?, ?, ?, 1)"
        " ON CONFLICT (package, tag) DO UPDATE SET version = excluded.version, by_hand = 1",
        (package, tag, version),
    )
    count = connection.execute("SELECT count(*) FROM tags WHERE package = ?", (package,))
    if count.fetchone()[0] > MAX_TAGS:
        raise InvalidInput(f"a package has at most {MAX_TAGS} tags", hint="delete some first")


def add_signatures(
    connection: sqlite3.Connection, version: sqlite3.Row, more: Iterable[dict[str, str]]
) -> None:
    """Keep further signatures of a version.

    Raises:
        InvalidInput: it would have too many.
    """
    there = from_json(version["signatures"])
    added = [signature for signature in more if signature not in there]
    if len(there) + len(added) > MAX_SIGNATURES:
        raise InvalidInput(f"a version has at most {MAX_SIGNATURES} signatures")
    if added:
        connection.execute(
            "UPDATE versions SET signatures = ? WHERE id = ?",
            (to_json([*there, *added]), version["id"]),
        )


def needed(connection: sqlite3.Connection) -> Iterator[str]:
    """The hex digests that versions and documents refer to."""
    rows = connection.execute("SELECT sha256 FROM files UNION SELECT sha256 FROM document_blobs")
    return (row[0] for row in rows)
