# SPDX-License-Identifier: BUSL-1.1
"""Which version `latest` is, and what a tag may be called. Decisions only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cmp_to_key
from typing import Final

from axon_client import spec, versions
from mlos_core.errors import InvalidInput

_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def highest_first(texts: Iterable[str]) -> list[str]:
    """Versions in descending order."""
    return sorted(texts, key=cmp_to_key(versions.compare), reverse=True)


def latest(sound: Iterable[str]) -> str:
    """The highest stable version, or the highest of all if none is stable; or nothing.

    Args:
        sound: the versions that are not yanked.
    """
    ordered = highest_first(sound)
    return versions.best(ordered, "*") or (ordered[0] if ordered else "")


def check_tag(tag: str) -> None:
    """Refuse a tag that could be taken for a version.

    Raises:
        InvalidInput: it has a wrong form, or means a version or a range.
    """
    if not _TAG.fullmatch(tag):
        raise InvalidInput(
            f"{tag[:80]!r} is no tag",
            hint="a letter, then at most 63 letters, digits, '.', '_' or '-'",
        )
    if spec.kind_of(tag) != "tag":
        raise InvalidInput(f"{tag!r} would be taken for a version", hint="choose another tag")
