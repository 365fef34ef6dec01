# SPDX-License-Identifier: BUSL-1.1
"""Which version `latest` is, and what tags and versions may be called. Decisions only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from axon_client import spec, versions
from mlos_core.errors import InvalidInput

_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def latest(sound: Iterable[str], namespace: str) -> str:
    """The highest stable version, or the highest of all if none is stable; or nothing.

    Args:
        sound: the versions that are not yanked.
        namespace: whose rules of ordering hold.
    """
    ordered = versions.sort(sound, namespace)
    return versions.best(ordered, "*", namespace) or (ordered[0] if ordered else "")


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


def check_version(version: str, namespace: str) -> None:
    """Refuse a version that could be taken for a tag or a range.

    Raises:
        InvalidInput: it is neither a number with dots nor a whole commit.
    """
    if versions.parse(version, namespace) is None and spec.kind_of(version) != "exact":
        raise InvalidInput(
            f"{version!r} would be taken for a tag or a range", hint="a version is such as 1.2.3"
        )
