# SPDX-License-Identifier: BUSL-1.1
"""Manifests of other kinds, kept as they were pushed: what the OCI endpoint serves.

A document belongs to a repository, is found by its digest or by a tag, and keeps the blobs
that it names from being collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from axon_client.registry.database import Database
from axon_client.registry.records import Document
from mlos_core.errors import InvalidInput, NotFound

MAX_BODY = 4 << 20


def _nothing() -> None:
    pass


class Documents:
    """The documents in a registry's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        repository: str,
        digest: str,
        media_type: str,
        body: bytes,
        blobs: Iterable[str] = (),
        tag: str = "",
        check: Callable[[], None] = _nothing,
    ) -> None:
        """Keep a document; the same one again is left alone, but for its tag.

        Args:
            repository: `namespace/name`, or what its kind calls it.
            digest: `sha256:<hex>` of `body`, checked by the caller.
            media_type: what kind it is.
            body: its exact bytes.
            blobs: hex digests of what it needs.
            tag: what it is called from now on, if anything.
            check: called inside the transaction, in which no blob can vanish; what it raises
                stops everything.

        Raises:
            InvalidInput: it is too large.
        """
        if len(body) > MAX_BODY:
            raise InvalidInput(f"{digest} is larger than {MAX_BODY} bytes")
        with self._database.write() as connection:
            check()
            connection.execute(
                "INSERT OR IGNORE INTO documents (repository, digest, media_type, body, created)"
                " VALUES (?, ?, ?, ?, ?)",
                (repository, digest, media_type, body, self._database.now()),
            )
            key = connection.execute(
                "SELECT id FROM documents WHERE repository = ? AND digest = ?",
                (repository, digest),
            ).fetchone()[0]
            connection.executemany(
                "INSERT OR IGNORE INTO document_blobs (document, sha256) VALUES (?, ?)",
                [(key, blob) for blob in blobs],
            )
            if tag:
                connection.execute(
                    "INSERT OR REPLACE INTO document_tags (repository, tag, document)"
                    " VALUES (?, ?, ?)",
                    (repository, tag, key),
                )

    def get(self, repository: str, reference: str) -> Document:
        """The document that a digest or a tag names.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT digest, media_type, body, created FROM documents WHERE repository = ?1"
                " AND (digest = ?2 OR id = (SELECT document FROM document_tags"
                " WHERE repository = ?1 AND tag = ?2))",
                (repository, reference),
            ).fetchone()
        if row is None:
            raise NotFound(f"{repository} has nothing called {reference[:80]!r}")
        return Document(row["digest"], row["media_type"], bytes(row["body"]), row["created"])

    def tags(self, repository: str) -> dict[str, str]:
        """Which digest each tag names."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT tag, digest FROM document_tags JOIN documents ON documents.id = document"
                " WHERE document_tags.repository = ? ORDER BY tag",
                (repository,),
            )
            return dict(rows.fetchall())
