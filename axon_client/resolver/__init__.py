# SPDX-License-Identifier: BUSL-1.1
"""Which version of which package: what is asked for, and what that needs in turn."""

from __future__ import annotations

from axon_client.resolver.offers import Offers, SourceOf, allowed
from axon_client.resolver.resolution import Chosen, Resolution, resolve
from axon_client.resolver.stored import stored

__all__ = [
    "Chosen",
    "Offers",
    "Resolution",
    "SourceOf",
    "allowed",
    "resolve",
    "stored",
]
