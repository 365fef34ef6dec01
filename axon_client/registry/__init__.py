# SPDX-License-Identifier: BUSL-1.1
"""The embedded registry server, `axon registry serve`.

    FOLDER/registry.db               metadata, full-text search, tokens; SQLite in WAL mode
    FOLDER/blobs/sha256/<hex>        every distinct file once, read-only, as in axon's own store
    FOLDER/uploads/<id>              uploads under way

A version is its manifest's exact bytes and the blobs that the manifest lists. It appears in
one transaction or not at all, and never changes afterwards.
"""
