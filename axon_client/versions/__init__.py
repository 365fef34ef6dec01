# SPDX-License-Identifier: BUSL-1.1
"""Versions and what may be said of them: semantic versioning and npm's ranges.

Packages of pypi/ have versions of the Python kind (PEP 440); they are put into the same
order and the same ranges, so `^1.2` fits `1.3.0.post1` and, like npm, no `2.0.0rc1`.
"""

from __future__ import annotations

from axon_client.versions.ranges import Range, is_range, parse_range
from axon_client.versions.select import best, satisfies, sort
from axon_client.versions.version import Key, Version, compare, is_semantic, is_stable, key, parse

__all__ = [
    "Key",
    "Range",
    "Version",
    "best",
    "compare",
    "is_range",
    "is_semantic",
    "is_stable",
    "key",
    "parse",
    "parse_range",
    "satisfies",
    "sort",
]
