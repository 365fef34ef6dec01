# SPDX-License-Identifier: BUSL-1.1
"""The tables of a registry, as the steps that lead to them. `user_version` counts the steps.

A step that was released is never changed; what is to be different becomes a further step.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x41584F4E
"""Tells a registry's file from any other database: `AXON`."""

_FIRST: Final = (
    # What search shows of a package is what its `latest` version says of itself.
    """
    CREATE TABLE packages (
        id INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        created TEXT NOT NULL,
        version TEXT NOT NULL DEFAULT '',
        updated TEXT NOT NULL DEFAULT '',
        description TEXT NOT NULL DEFAULT '',
        framework TEXT NOT NULL DEFAULT '',
        format TEXT NOT NULL DEFAULT '',
        license TEXT NOT NULL DEFAULT '',
        tags TEXT NOT NULL DEFAULT '[]',
        size INTEGER NOT NULL DEFAULT 0
    )
    """,
    # Names that differ in case alone would be one folder on some file systems.
    """
    CREATE UNIQUE INDEX packages_by_name
        ON packages (namespace COLLATE NOCASE, name COLLATE NOCASE)
    """,
    """
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        package INTEGER NOT NULL REFERENCES packages (id),
        version TEXT NOT NULL,
        manifest BLOB NOT NULL,
        manifest_sha256 TEXT NOT NULL,
        archive TEXT NOT NULL,
        size INTEGER NOT NULL,
        created TEXT NOT NULL,
        publisher TEXT NOT NULL,
        yanked TEXT,
        dependencies TEXT NOT NULL,
        signatures TEXT NOT NULL,
        card TEXT NOT NULL,
        UNIQUE (package, version)
    )
    """,
    "CREATE INDEX versions_by_archive ON versions (archive)",
    """
    CREATE TABLE files (
        version INTEGER NOT NULL REFERENCES versions (id),
        path TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (version, path)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX files_by_digest ON files (sha256)",
    """
    CREATE TABLE tags (
        package INTEGER NOT NULL REFERENCES packages (id),
        tag TEXT NOT NULL,
        version TEXT NOT NULL,
        by_hand INTEGER NOT NULL,
        PRIMARY KEY (package, tag)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE labels (
        package INTEGER NOT NULL REFERENCES packages (id),
        facet TEXT NOT NULL,
        value TEXT NOT NULL COLLATE NOCASE,
        PRIMARY KEY (facet, value, package)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX labels_by_package ON labels (package)",
    """
    CREATE VIRTUAL TABLE words USING fts5 (
        name, about, labels, tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
    )
    """,
    """
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        label TEXT NOT NULL,
        hash BLOB NOT NULL,
        scopes TEXT NOT NULL,
        created TEXT NOT NULL,
        expires TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        size INTEGER NOT NULL,
        expires REAL NOT NULL,
        finished INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        body BLOB NOT NULL,
        created TEXT NOT NULL,
        UNIQUE (repository, digest)
    )
    """,
    """
    CREATE TABLE document_blobs (
        document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (sha256, document)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE document_tags (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID
    """,
)

MIGRATIONS: Final = (_FIRST,)
