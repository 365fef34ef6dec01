# SPDX-License-Identifier: BUSL-1.1
"""Packages, versions and tags of a registry.

Guarantees: a version is published in one transaction and never changes, but for being yanked
and for signatures that are added; what `latest` is and what search shows follow in the same
transaction. Every method is safe to call from any thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from axon_client import versions
from axon_client.manifest import ModelFile
from axon_client.registry import shelf
from axon_client.registry.connections import BUSY_TIMEOUT_S, Connections
from axon_client.registry.latest import check_tag
from axon_client.registry.records import (
    PackageIndex,
    Release,
    VersionDetail,
    VersionRow,
    from_json,
    to_json,
    utc_now,
)
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

FILE_NAME = "registry.db"
MAX_TAGS = 100
MAX_SIGNATURES = 16


def _nothing() -> None:
    pass


class Database:
    """The registry's metadata in the file `path`, which is made if it is missing.

    Args:
        path: the file.
        busy_timeout_s: how long a writer waits for another.
        now: gives the time, as `records.utc_now` does.

    Raises:
        ConfigError: the file is something else, or of a newer version.
    """

    def __init__(
        self,
        path: Path,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self._connections = Connections(path, busy_timeout_s)
        self.now = now

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """A block that reads one state."""
        return self._connections.read()

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """A block that changes everything at its end or, if it raises, nothing."""
        return self._connections.write()

    def close(self) -> None:
        """Let go of the file."""
        self._connections.close()

    # --- writing ----------------------------------------------------------------------

    def publish(
        self, release: Release, tags: Sequence[str] = (), check: Callable[[], None] = _nothing
    ) -> bool:
        """Add a version; whether it is new.

        The same manifest again changes nothing but adds signatures and tags.

        Args:
            release: the version, checked by the caller.
            tags: what it is called beside.
            check: called before the end of the transaction, in which no blob can vanish;
                what it raises stops everything.

        Raises:
            AlreadyExists: the version is there with another manifest, or a package whose
                name differs in case alone.
            InvalidInput: a tag is not allowed, or there are too many tags or signatures.
        """
        for tag in tags:
            check_tag(tag)
        with self.write() as connection:
            package = shelf.package_for(connection, release, self.now())
            version = shelf.find_version(connection, package, release.version)
            if version is not None and version["manifest_sha256"] != release.manifest_sha256:
                raise AlreadyExists(
                    f"{release.title} is published with another manifest",
                    hint="published versions never change: choose another version",
                )
            check()
            if version is None:
                shelf.insert_version(connection, package, release, self.now())
            else:
                _add_signatures(connection, version, release.signatures)
            for tag in tags:
                _tag(connection, package, tag, release.version)
            shelf.refresh(connection, package)
            return version is None

    def yank(self, namespace: str, name: str, version: str, reason: str | None) -> None:
        """Mark a version as one that nobody should choose; None takes that back.

        Raises:
            NotFound: there is no such version.
        """
        with self.write() as connection:
            package = _package(connection, namespace, name)["id"]
            row = _version(connection, namespace, name, version)
            connection.execute("UPDATE versions SET yanked = ? WHERE id = ?", (reason, row["id"]))
            shelf.refresh(connection, package)

    def set_tag(self, namespace: str, name: str, tag: str, version: str) -> None:
        """Let a tag name a version; `latest` then stays where it was put.

        Raises:
            NotFound: there is no such version.
            InvalidInput: the tag is not allowed, or the package has too many.
        """
        check_tag(tag)
        with self.write() as connection:
            _version(connection, namespace, name, version)
            package = _package(connection, namespace, name)["id"]
            _tag(connection, package, tag, version)
            shelf.refresh(connection, package)

    def delete_tag(self, namespace: str, name: str, tag: str) -> None:
        """Remove a tag; `latest` goes back to the highest stable version.

        Raises:
            NotFound: there is no such tag.
        """
        with self.write() as connection:
            package = _package(connection, namespace, name)["id"]
            done = connection.execute(
                "DELETE FROM tags WHERE package = ? AND tag = ?", (package, tag)
            )
            if not done.rowcount:
                raise NotFound(f"{namespace}/{name} has no tag {tag[:80]!r}")
            shelf.refresh(connection, package)

    # --- reading ----------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        """Every namespace that has a package."""
        with self.read() as connection:
            rows = connection.execute("SELECT DISTINCT namespace FROM packages ORDER BY 1")
            return [row[0] for row in rows]

    def packages(self) -> list[tuple[str, str]]:
        """Namespace and name of every package."""
        with self.read() as connection:
            rows = connection.execute("SELECT namespace, name FROM packages ORDER BY 1, 2")
            return [(row[0], row[1]) for row in rows]

    def index(self, namespace: str, name: str) -> PackageIndex:
        """A package's versions and tags.

        Raises:
            NotFound: there is no such package.
        """
        with self.read() as connection:
            package = _package(connection, namespace, name)
            rows = connection.execute(
                "SELECT version, manifest_sha256, created, yanked, size FROM versions"
                " WHERE package = ?",
                (package["id"],),
            )
            found = {row["version"]: VersionRow(*row) for row in rows}
            tags = connection.execute(
                "SELECT tag, version FROM tags WHERE package = ? ORDER BY tag", (package["id"],)
            )
            return PackageIndex(
                namespace,
                name,
                package["description"],
                dict(tags.fetchall()),
                [found[version] for version in versions.sort(found, namespace)],
            )

    def versions(self, namespace: str, name: str) -> list[VersionRow]:
        """A package's versions, the highest first.

        Raises:
            NotFound: there is no such package.
        """
        return self.index(namespace, name).versions

    def tags(self, namespace: str, name: str) -> dict[str, str]:
        """Which version each tag names.

        Raises:
            NotFound: there is no such package.
        """
        return self.index(namespace, name).tags

    def version(self, namespace: str, name: str, version: str) -> VersionDetail:
        """What is known of a version.

        Raises:
            NotFound: there is no such version.
        """
        with self.read() as connection:
            row = _version(connection, namespace, name, version)
            return VersionDetail(
                version=row["version"],
                manifest_sha256=row["manifest_sha256"],
                signatures=from_json(row["signatures"]),
                yanked=row["yanked"],
                dependencies=from_json(row["dependencies"]),
                files=_files(connection, row["id"]),
                created=row["created"],
                size=row["size"],
            )

    def manifest(self, namespace: str, name: str, version: str) -> bytes:
        """The exact bytes that were published.

        Raises:
            NotFound: there is no such version.
        """
        with self.read() as connection:
            return bytes(_version(connection, namespace, name, version)["manifest"])

    def archived(self, archive: str) -> tuple[bytes, list[ModelFile]]:
        """Manifest and files of the version whose archive has this file name.

        Raises:
            NotFound: there is none.
            AlreadyExists: several versions' archives would be called that.
        """
        with self.read() as connection:
            rows = connection.execute(
                "SELECT id, manifest FROM versions WHERE archive = ? LIMIT 2", (archive,)
            ).fetchall()
            if not rows:
                raise NotFound(f"there is no package {archive[:200]!r}")
            if len(rows) > 1:
                raise AlreadyExists(
                    f"{archive!r} is the name of several packages' archives",
                    hint="ask for the manifest and its blobs",
                )
            return bytes(rows[0]["manifest"]), _files(connection, rows[0]["id"])

    def blobs(self) -> set[str]:
        """The hex digest of every blob that a version or a document needs."""
        with self.read() as connection:
            return set(needed(connection))


def needed(connection: sqlite3.Connection) -> Iterator[str]:
    """The hex digests that versions and documents refer to."""
    rows = connection.execute("SELECT sha256 FROM files UNION SELECT sha256 FROM document_blobs")
    return (row[0] for row in rows)


def _package(connection: sqlite3.Connection, namespace: str, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, description FROM packages WHERE namespace = ? AND name = ?", (namespace, name)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no package {namespace}/{name}")
    return row


def _version(
    connection: sqlite3.Connection, namespace: str, name: str, version: str
) -> sqlite3.Row:
    package = _package(connection, namespace, name)
    row = shelf.find_version(connection, package["id"], version)
    if row is None:
        raise NotFound(f"there is no version {version[:128]!r} of {namespace}/{name}")
    return row


def _files(connection: sqlite3.Connection, version: int) -> list[ModelFile]:
    rows = connection.execute(
        "SELECT path, size, sha256 FROM files WHERE version = ? ORDER BY path", (version,)
    )
    return [ModelFile(*row) for row in rows]


def _tag(connection: sqlite3.Connection, package: int, tag: str, version: str) -> None:
    connection.execute(
        "INSERT INTO tags (package, tag, version, by_hand) VALUES (?, ?, ?, 1)"
        " ON CONFLICT (package, tag) DO UPDATE SET version = excluded.version, by_hand = 1",
        (package, tag, version),
    )
    count = connection.execute("SELECT count(*) FROM tags WHERE package = ?", (package,))
    if count.fetchone()[0] > MAX_TAGS:
        raise InvalidInput(f"a package has at most {MAX_TAGS} tags", hint="delete some first")


def _add_signatures(
    connection: sqlite3.Connection, version: sqlite3.Row, more: Iterable[dict[str, str]]
) -> None:
    there = from_json(version["signatures"])
    added = [signature for signature in more if signature not in there]
    if len(there) + len(added) > MAX_SIGNATURES:
        raise InvalidInput(f"a version has at most {MAX_SIGNATURES} signatures")
    if added:
        connection.execute(
            "UPDATE versions SET signatures = ? WHERE id = ?",
            (to_json([*there, *added]), version["id"]),
        )
