# SPDX-License-Identifier: BUSL-1.1
"""Choosing among versions."""

from __future__ import annotations

from collections.abc import Iterable

from axon_client.versions.ranges import parse_range
from axon_client.versions.version import key, parse


def satisfies(version: str, selector: str, namespace: str = "") -> bool:
    """Whether an exact version fits a range. False for what is no version.

    Raises:
        InvalidInput: `selector` is no range.
    """
    parsed, wanted = parse(version, namespace), parse_range(selector)
    return parsed is not None and wanted.fits(parsed)


def sort(versions: Iterable[str], namespace: str = "") -> list[str]:
    """The highest first."""
    return sorted(versions, key=lambda text: key(text, namespace), reverse=True)


def best(versions: Iterable[str], selector: str = "", namespace: str = "") -> str | None:
    """The highest version that a selector fits, or None.

    A version of exactly that name comes before a reading as a range: `1.0` is a version
    to Python's packages and everything from 1.0.0 on, up to 1.1, to npm.

    Raises:
        InvalidInput: `selector` is neither among the versions nor a range.
    """
    ordered = sort(versions, namespace)
    if selector in ordered:
        return selector
    return next((text for text in ordered if satisfies(text, selector, namespace)), None)
