# SPDX-License-Identifier: BUSL-1.1
"""One version: semantic versioning 2.0.0 and PEP 440 in one total order.

A key is (known, epoch, release, stage, build). The stage is a run of identifiers that ends
with `_END`, so that tuples compare as both standards ask:

    1.0.0.dev1 < 1.0.0-alpha < 1.0.0-alpha.1 < 1.0.0 < 1.0.0.post1
    (0,0)(0,1)   (1,alpha)     (1,alpha)(0,1)  (2)     (3,1)
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from mlos_core.errors import InvalidInput

Identifier = tuple[int, int, str]
Key = tuple[int, int, tuple[int, ...], tuple[Identifier, ...], tuple[Identifier, ...], str]

MAX_LENGTH: Final = 256
MAX_NUMBER: Final = 2**53 - 1
"""npm's limits, kept so that no version is one thing here and another there."""

NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_WORD: Final = rf"(?:[0-9]*[A-Za-z-][0-9A-Za-z-]*|{NUMBER})"
PRERELEASE: Final = rf"{_WORD}(?:\.{_WORD})*"
BUILD: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_SEMVER: Final = re.compile(
    rf"v?({NUMBER})\.({NUMBER})\.({NUMBER})(?:-({PRERELEASE}))?(?:\+({BUILD}))?"
)

_WITHIN_DEV: Final = -2
_END: Final[Identifier] = (-1, 0, "")
_FINAL: Final[Identifier] = (2, 0, "")
_POST: Final = 3
_PYTHON_STAGES: Final = {"a": "alpha", "b": "beta", "rc": "rc"}


class Version(msgspec.Struct, frozen=True):
    """A version that can be compared.

    Attributes:
        release: at least major, minor, patch; PEP 440 knows more parts.
        stage: see the module.
        build: never changes precedence, only the order of what is otherwise equal.
    """

    text: str
    release: tuple[int, ...]
    stage: tuple[Identifier, ...] = (_FINAL, _END)
    build: tuple[Identifier, ...] = ()
    prerelease: bool = False
    epoch: int = 0

    @property
    def precedence(self) -> tuple[int, tuple[int, ...], tuple[Identifier, ...]]:
        """What ranges compare: everything but the build."""
        return self.epoch, self.release, self.stage


@lru_cache(maxsize=4096)
def parse(text: str, namespace: str = "") -> Version | None:
    """The version that `text` writes; None if it is of no known kind, such as a branch."""
    if len(text) > MAX_LENGTH:
        return None
    if namespace == "pypi":
        return _python(text)
    # A model that came out of a wheel keeps its version. What has a hyphen is left alone:
    # PEP 440 reads a damaged pre-release such as 1.2.3-01 as something after 1.2.3.
    return _semver(text) or (None if "-" in text else _python(text))


def strict(text: str) -> Version:
    """A semantic version.

    Raises:
        InvalidInput: it is none.
    """
    found = _semver(text)
    if found is None or len(text) > MAX_LENGTH:
        raise InvalidInput(
            f"{text[:80]!r} is not a semantic version", hint="write major.minor.patch: 1.2.3"
        )
    return found


def is_semantic(text: str) -> bool:
    """Whether it is a whole semantic version."""
    return len(text) <= MAX_LENGTH and _semver(text) is not None


def _semver(text: str) -> Version | None:
    match = _SEMVER.fullmatch(text)
    if not match:
        return None
    release = tuple(int(part) for part in match.groups()[:3])
    if max(release) > MAX_NUMBER:
        return None
    early, build = match[4], match[5]
    stage = (*map(_identifier, early.split(".")), _END) if early else (_FINAL, _END)
    return Version(
        text,
        release,
        stage,
        tuple(map(_identifier, build.split("."))) if build else (),
        bool(early),
    )


def _identifier(text: str) -> Identifier:
    return (0, int(text), "") if text.isdigit() else (1, 0, text)


def _python(text: str) -> Version | None:
    from packaging import version as pep440  # late: most commands meet none

    try:
        read = pep440.Version(text)
    except pep440.InvalidVersion:
        return None
    stage: list[Identifier] = []
    if read.pre:
        stage += [(1, 0, _PYTHON_STAGES[read.pre[0]]), (0, read.pre[1], "")]
    elif read.post is None and read.dev is not None:
        stage.append((0, 0, ""))  # before any alpha, but not before `-0`, npm's lowest bound
    elif read.post is None:
        stage.append(_FINAL)
    if read.post is not None:
        stage.append((_POST, read.post, ""))
    if read.dev is not None:
        alone = not read.pre and read.post is None
        stage.append((0 if alone else _WITHIN_DEV, read.dev, ""))
    local = (read.local or "").split(".") if read.local else []
    # Unlike semantic versioning, PEP 440 puts numbers behind words.
    build = tuple((2, int(part), "") if part.isdigit() else (1, 0, part) for part in local)
    return Version(
        text, _padded(read.release), (*stage, _END), build, read.is_prerelease, read.epoch
    )


def _padded(release: tuple[int, ...]) -> tuple[int, ...]:
    """At least three parts; what else is zero at the end says nothing."""
    parts = [*release, 0, 0]
    while len(parts) > 3 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def key(text: str, namespace: str = "") -> Key:
    """What to sort by. Versions of no known kind come first, in the order of their text."""
    version = parse(text, namespace)
    if version is None:
        return 0, 0, (), (), (), text
    return 1, version.epoch, version.release, version.stage, version.build, text


def compare(one: str, other: str, namespace: str = "") -> int:
    """-1, 0 or 1, by precedence: builds count for nothing."""
    left, right = key(one, namespace), key(other, namespace)
    if left[0] and right[0]:
        left, right = (*left[:4], (), ""), (*right[:4], (), "")
    return (left > right) - (left < right)


def is_stable(text: str, namespace: str = "") -> bool:
    """Whether it is a version and not a pre-release."""
    version = parse(text, namespace)
    return version is not None and not version.prerelease
