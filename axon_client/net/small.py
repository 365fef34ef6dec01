# SPDX-License-Identifier: BUSL-1.1
"""Small things, whole, with a bound on their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from axon_client.net.client import Client
from axon_client.net.faults import check_status, retrying
from axon_client.net.options import Options, configured
from axon_client.net.ranges import broken

ATTEMPTS = 3


def get_bytes(
    url: str,
    limit: int,
    *,
    headers: Mapping[str, str] = {},
    options: Options | None = None,
    kept: bool = True,
) -> bytes:
    """The body of a successful answer, at most `limit` bytes.

    Args:
        kept: see `Client.request`.

    Raises:
        NotFound: the server has nothing there.
        PermissionDenied: it wants a login, or does not accept this one.
        Unavailable: it cannot be reached, now or at all.
        ProtocolError: it breaks the rules, or its answer is larger than `limit`.
        ConfigError: axon is offline.
    """
    chosen = options or configured()
    client = Client(chosen)
    headers = {"Accept-Encoding": "gzip, deflate", **headers}
    attempts = min(ATTEMPTS, chosen.attempts)
    try:
        return retrying(
            lambda: _get(client, url, limit, headers, chosen, kept), attempts, chosen.clock
        )
    finally:
        client.close()


def _get(
    client: Client,
    url: str,
    limit: int,
    headers: Mapping[str, str],
    options: Options,
    kept: bool,
) -> bytes:
    with client.request("GET", url, headers, kept=kept) as answer:
        check_status(answer.status, answer.headers, answer.url, options.clock.unix())
        return answer.read(limit)


def get_json(
    url: str,
    limit: int,
    *,
    headers: Mapping[str, str] = {},
    options: Options | None = None,
    kept: bool = True,
) -> Any:
    """The value that a successful answer holds; see `get_bytes`."""
    headers = {"Accept": "application/json", **headers}
    data = get_bytes(url, limit, headers=headers, options=options, kept=kept)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken(url, f"sends no JSON: {error}") from error
