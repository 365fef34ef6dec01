# SPDX-License-Identifier: BUSL-1.1
"""The rows behind a package, inside a transaction that the caller holds."""

from __future__ import annotations

import sqlite3

import msgspec

from axon_client.pack import file_name
from axon_client.registry.cards import labels
from axon_client.registry.latest import latest
from axon_client.registry.records import LATEST, Card, Release, to_json
from axon_client.registry.rows import find_version
from axon_client.spec import PackageSpec
from mlos_core.errors import AlreadyExists


def package_for(connection: sqlite3.Connection, release: Release, now: str) -> int:
    """The row of a release's package, made if it is its first."""
    row = connection.execute(
        "SELECT id, namespace, name FROM packages"
        " WHERE namespace = ? COLLATE NOCASE AND name = ? COLLATE NOCASE",
        (release.namespace, release.name),
    ).fetchone()
    if row is None:
        made = connection.execute(
            "INSERT INTO packages (namespace, name, created) VALUES (?, ?, ?)",
            (release.namespace, release.name, now),
        )
        return made.lastrowid or 0
    if (row["namespace"], row["name"]) != (release.namespace, release.name):
        raise AlreadyExists(
            f"{row['namespace']}/{row['name']} differs from {release.namespace}/{release.name}"
            " in case alone",
            hint="publish under that name, or choose another",
        )
    return int(row["id"])


def insert_version(
    connection: sqlite3.Connection, package: int, release: Release, now: str
) -> None:
    """Add a version and its files."""
    made = connection.execute(
        "INSERT INTO versions (package, version, manifest, manifest_sha256, archive, size,"
        " created, publisher, dependencies, signatures, card)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            package,
            release.version,
            release.manifest,
            release.manifest_sha256,
            file_name(PackageSpec(release.namespace, release.name, release.version)),
            release.size,
            now,
            release.publisher,
            to_json(release.dependencies),
            to_json(release.signatures),
            to_json(release.card),
        ),
    )
    connection.executemany(
        "INSERT INTO files (version, path, size, sha256) VALUES (?, ?, ?, ?)",
        [(made.lastrowid, file.path, file.size, file.sha256) for file in release.files],
    )


def refresh(connection: sqlite3.Connection, package: int) -> None:
    """Move `latest`, unless it was set by hand, and show search what it names."""
    rows = connection.execute(
        "SELECT versions.version, namespace FROM versions JOIN packages ON packages.id = package"
        " WHERE package = ? AND yanked IS NULL",
        (package,),
    ).fetchall()
    sound = [row["version"] for row in rows]
    pinned = connection.execute(
        "SELECT version FROM tags WHERE package = ? AND tag = ? AND by_hand", (package, LATEST)
    ).fetchone()
    chosen = pinned[0] if pinned else latest(sound, rows[0]["namespace"] if rows else "")
    if not pinned:
        connection.execute("DELETE FROM tags WHERE package = ? AND tag = ?", (package, LATEST))
        if chosen:
            connection.execute("INSERT INTO tags VALUES (?, ?, ?, 0)", (package, LATEST, chosen))
    _show(connection, package, chosen if chosen in sound else "")


def _show(connection: sqlite3.Connection, package: int, version: str) -> None:
    """Fill what search sees; a package whose `latest` is yanked or missing is hidden."""
    connection.execute("DELETE FROM labels WHERE package = ?", (package,))
    connection.execute("DELETE FROM words WHERE rowid = ?", (package,))
    row = find_version(connection, package, version)
    if row is None:
        connection.execute("UPDATE packages SET version = '' WHERE id = ?", (package,))
        return
    card = msgspec.json.decode(row["card"], type=Card)
    namespace, name = connection.execute(
        "SELECT namespace, name FROM packages WHERE id = ?", (package,)
    ).fetchone()
    connection.execute(
        "UPDATE packages SET version = ?, updated = ?, description = ?, framework = ?,"
        " format = ?, license = ?, tags = ?, size = ? WHERE id = ?",
        (
            version,
            row["created"],
            card.description,
            card.framework,
            card.format,
            card.license,
            to_json(card.tags),
            row["size"],
            package,
        ),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO labels (facet, value, package) VALUES (?, ?, ?)",
        [(facet, value, package) for facet, value in labels(namespace, card)],
    )
    connection.execute(
        "INSERT INTO words (rowid, name, about, labels) VALUES (?, ?, ?, ?)",
        (
            package,
            f"{namespace} {name}",
            card.description,
            " ".join((card.framework, card.format, card.license, *card.tags, *card.authors)),
        ),
    )
