# SPDX-License-Identifier: BUSL-1.1
"""Packages, versions and tags of a registry.

Guarantees: a version is published in one transaction and never changes, but for being yanked
and for signatures that are added; what `latest` is and what search shows follow in the same
transaction. Every method is safe to call from any thread.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
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
    utc_now,
)
from axon_client.registry.rows import (
    add_signatures,
    files_of,
    find_version,
    package_row,
    set_tag,
    version_row,
)
from mlos_core.errors import AlreadyExists, NotFound

FILE_NAME = "registry.db"


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

    def read(self, most_s: float = math.inf) -> AbstractContextManager[sqlite3.Connection]:
        """A block that reads one state, and ends with DeadlineExceeded after `most_s` seconds."""
        return self._connections.read(most_s)

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
            version = find_version(connection, package, release.version)
            if version is not None and version["manifest_sha256"] != release.manifest_sha256:
                raise AlreadyExists(
                    f"{release.title} is published with another manifest",
                    hint="published versions never change: choose another version",
                )
            check()
            if version is None:
                shelf.insert_version(connection, package, release, self.now())
            else:
                add_signatures(connection, version, release.signatures)
            for tag in tags:
                set_tag(connection, package, tag, release.version)
            shelf.refresh(connection, package)
            return version is None

    def yank(self, namespace: str, name: str, version: str, reason: str | None) -> None:
        """Mark a version as one that nobody should choose; None takes that back.

        Raises:
            NotFound: there is no such version.
        """
        with self.write() as connection:
            package = package_row(connection, namespace, name)["id"]
            row = version_row(connection, namespace, name, version)
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
            version_row(connection, namespace, name, version)
            package = package_row(connection, namespace, name)["id"]
            set_tag(connection, package, tag, version)
            shelf.refresh(connection, package)

    def delete_tag(self, namespace: str, name: str, tag: str) -> None:
        """Remove a tag; `latest` goes back to the highest stable version.

        Raises:
            NotFound: there is no such tag.
        """
        with self.write() as connection:
            package = package_row(connection, namespace, name)["id"]
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
            package = package_row(connection, namespace, name)
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
            row = version_row(connection, namespace, name, version)
            return VersionDetail(
                version=row["version"],
                manifest_sha256=row["manifest_sha256"],
                signatures=from_json(row["signatures"]),
                yanked=row["yanked"],
                dependencies=from_json(row["dependencies"]),
                files=files_of(connection, row["id"]),
                created=row["created"],
                size=row["size"],
            )

    def manifest(self, namespace: str, name: str, version: str) -> bytes:
        """The exact bytes that were published.

        Raises:
            NotFound: there is no such version.
        """
        with self.read() as connection:
            return bytes(version_row(connection, namespace, name, version)["manifest"])

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
            return bytes(rows[0]["manifest"]), files_of(connection, rows[0]["id"])
