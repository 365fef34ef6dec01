# SPDX-License-Identifier: BUSL-1.1
"""An axon registry over HTTP, as its client sees it."""

from axon_client.remote.client import Remote
from axon_client.remote.exchange import Exchange, Reply
from axon_client.remote.records import (
    About,
    Detail,
    Entry,
    Filters,
    Identity,
    Index,
    Release,
)

__all__ = [
    "About", "Detail", "Entry", "Exchange", "Filters", "Identity", "Index", "Release", "Remote",
    "Reply",
]  # fmt: skip
