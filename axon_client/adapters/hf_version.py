# SPDX-License-Identifier: BUSL-1.1
"""Versions of a repository that has commits and names for them.

    tagged v1.2.0                 1.2.0
    any other commit              0.0.0+<first 12 hex digits of it>
    with one of several variants  1.2.0+q8-0, 0.0.0+<12 hex>.q8-0

So a version names what it holds, can be ordered, and leads back to the commit. Pure: what the
hub knows comes in as `Refs`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from axon_client import versions

UNTAGGED: Final = "0.0.0"
SHORT: Final = 12
_TAG: Final = re.compile(r"[vV]?(\d{1,9}\.\d{1,9}(?:\.\d{1,9})?)((?:[-+][0-9A-Za-z.+-]{1,64})?)")
_UNTAGGED: Final = re.compile(rf"0\.0\.0\+([0-9a-f]{{{SHORT}}})(?:\.(.+))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT: Final = re.compile(r"[0-9a-f]{7,39}")


class Refs(msgspec.Struct, frozen=True):
    """Names of commits: the default branch's, and those of all branches and tags."""

    head: str = ""
    branches: dict[str, str] = {}
    tags: dict[str, str] = {}


class Wanted(msgspec.Struct, frozen=True):
    """What a selector means: a whole commit, the beginning of one, or a name only the hub knows.

    All are empty for the default branch's newest commit. `label` is the variant that the
    selector names.
    """

    commit: str = ""
    beginning: str = ""
    revision: str = ""
    label: str = ""


def of_tag(tag: str) -> str:
    """The version that a tag such as `v1.2.0` or `v1.2` names; empty if it names none."""
    found = _TAG.fullmatch(tag)
    if not found:
        return ""
    numbers = found[1] if found[1].count(".") == 2 else f"{found[1]}.0"
    text = numbers + found[2]
    return text if versions.is_semantic(text) else ""


def of_commit(commit: str, refs: Refs, label: str = "") -> str:
    """The version of a commit: its highest tag's, or one made from its name."""
    tagged = [of_tag(tag) for tag, target in refs.tags.items() if target == commit]
    best = next(iter(versions.sort(filter(None, tagged))), "")
    version = best or f"{UNTAGGED}+{commit[:SHORT]}"
    if not label:
        return version
    return f"{version}{'.' if '+' in version else '+'}{label}"


def is_exact(selector: str) -> bool:
    """Whether a selector is a version as `of_commit` makes them for commits."""
    return bool(_UNTAGGED.fullmatch(selector))


def label_of(version: str) -> str:
    """The variant that a version made by `of_commit` names; empty if it names none."""
    untagged = _UNTAGGED.fullmatch(version)
    return (untagged[2] or "") if untagged else version.partition("+")[2]


def wanted(selector: str, refs: Refs) -> Wanted:
    """What `selector` means in a repository with these names.

    A name stands before a reading as a version, a version before a commit's beginning.
    """
    commit = _named(selector, refs)
    if commit:
        return Wanted(commit)
    untagged = _UNTAGGED.fullmatch(selector)
    if untagged:
        known = [c for c in _commits(refs) if c.startswith(untagged[1])]
        return Wanted(known[0] if known else "", untagged[1], label=untagged[2] or "")
    base, _, label = selector.partition("+")
    if label and of_tag(base):
        commit = _named(base, refs)
        if commit:
            return Wanted(commit, label=label)
    if selector in ("", "*", "latest"):
        return Wanted(refs.head)
    if _COMMIT.fullmatch(selector):
        return Wanted(selector)
    if _SHORT_COMMIT.fullmatch(selector):
        known = [c for c in _commits(refs) if c.startswith(selector)]
        return Wanted(known[0] if known else "", selector)
    return Wanted(revision=selector)


def _named(selector: str, refs: Refs) -> str:
    for names, name in (
        (refs.tags, selector),
        (refs.tags, f"v{selector}"),
        (refs.branches, selector),
    ):
        if name in names:
            return names[name]
    offered = {of_tag(tag): commit for tag, commit in refs.tags.items() if of_tag(tag)}
    if selector in offered or of_tag(selector) == selector:
        return offered.get(selector, "")
    if selector in ("", "*") or not versions.is_range(selector):
        return ""
    return offered.get(versions.best(offered, selector) or "", "")


def _commits(refs: Refs) -> list[str]:
    return [*refs.branches.values(), *refs.tags.values()]
