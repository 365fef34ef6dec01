# SPDX-License-Identifier: BUSL-1.1
"""What clients may take of the server."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds.

    Attributes:
        body: one request's JSON; a manifest of the largest allowed size fits.
        blob: one uploaded file.
        uploads: uploads under way, all clients together.
        uploads_each: uploads under way of one token.
        upload_life: how long an upload is kept that nothing is added to.
        spare: free space on the disk that uploads leave alone.
        connections: open connections; more are closed at once.
        requests: requests under way; more are refused.
        request_time: from a request's head to the end of its answer, but for blobs.
        stall: how long a blob may rest on its way, up or down.
        grace: how long a stopping server waits for requests under way.
        keep: how long a blob that nothing needs is kept for the version that will.
        page: search results in one answer.
    """

    body: int = 12 << 20
    blob: int = 1 << 40
    uploads: int = 256
    uploads_each: int = 32
    upload_life: float = 24 * 3600.0
    spare: int = 64 << 20
    connections: int = 2048
    requests: int = 512
    request_time: float = 60.0
    stall: float = 60.0
    grace: float = 10.0
    keep: float = 24 * 3600.0
    page: int = 100
