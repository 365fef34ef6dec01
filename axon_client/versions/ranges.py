# SPDX-License-Identifier: BUSL-1.1
"""npm's ranges: `^1.2`, `~1.2.3`, `1.x`, `1.2 - 3`, `>=1 <3`, `^1 || ^3`.

No library agrees with npm where it matters to a lock: over pre-releases at the upper
bound (`<3` does not fit `3.0.0-rc.1`), over the space behind an operator, over what is
invalid. This one does; the tests compare it with npm's own.

A range is a list of alternatives, an alternative a list of comparators that must all hold;
one without comparators fits every stable version. A pre-release fits only where one of
these names a pre-release of the same major.minor.patch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import msgspec

from axon_client.versions.version import BUILD, MAX_LENGTH, NUMBER, PRERELEASE, Version, strict
from mlos_core.errors import InvalidInput

_X: Final = rf"({NUMBER}|[xX*])"
_PARTIAL: Final = rf"{_X}(?:\.{_X}(?:\.{_X}(?:-({PRERELEASE}))?)?)?"
_LOOSE: Final = rf"[v=]*{_PARTIAL}"
_SIDE: Final = rf"[v=\s]*{_PARTIAL}"
_BUILD: Final = re.compile(rf"\+{BUILD}")
_HYPHEN: Final = re.compile(rf"({_SIDE})\s+-\s+({_SIDE})")
_SPACED: Final = re.compile(r"(~\s*>|[<>]=?|[=~^])\s+(?=[v=]*[0-9xX*])|(~)\s+(?=>)")
_CARET: Final = re.compile(rf"\^{_LOOSE}")
_TILDE: Final = re.compile(rf"~>?{_LOOSE}")
_PLAIN: Final = re.compile(rf"([<>]?=?){_LOOSE}")
_EXACT: Final = re.compile(rf"([<>]?=?)(v?{NUMBER}\.{NUMBER}\.{NUMBER}(?:-{PRERELEASE})?)")
_STAR: Final = re.compile(r"[<>]?=?\*")
_HINT: Final = "ranges are written like ^1.2, ~1.2.3, 1.x, '>=1,<3' or '^1 || ^3'"

_Parts = tuple[str | None, ...]
"""Major, minor, patch, pre-release."""
_TESTS: Final[dict[str, Callable[[object, object], bool]]] = {
    "": lambda a, b: a == b,
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


class Comparator(msgspec.Struct, frozen=True):
    """An operator and the version it compares with."""

    operator: str
    version: Version

    def fits(self, version: Version) -> bool:
        """Whether the version is on the right side."""
        return _TESTS[self.operator](version.precedence, self.version.precedence)


class Range(msgspec.Struct, frozen=True):
    """A parsed range."""

    text: str
    alternatives: tuple[tuple[Comparator, ...], ...]

    def fits(self, version: Version) -> bool:
        """Whether the range has this version."""
        return any(_fits(comparators, version) for comparators in self.alternatives)


def _fits(comparators: tuple[Comparator, ...], version: Version) -> bool:
    if not all(comparator.fits(version) for comparator in comparators):
        return False
    return not version.prerelease or any(
        comparator.version.prerelease and comparator.version.release == version.release
        for comparator in comparators
    )


def is_range(text: str) -> bool:
    """Whether `parse_range` takes it."""
    try:
        parse_range(text)
    except InvalidInput:
        return False
    return True


@lru_cache(maxsize=1024)
def parse_range(text: str) -> Range:
    """Parse npm's syntax; a comma counts as a space.

    Raises:
        InvalidInput: it is no range; shows what one looks like.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"a range of {len(text)} characters is too long", hint=_HINT)
    alternatives = [_alternative(part.strip(), text) for part in text.replace(",", " ").split("||")]
    # Beside an alternative that takes everything, npm forgets the others, and with them
    # the pre-releases that they name.
    chosen = [()] if () in alternatives else alternatives
    return Range(text, tuple(chosen))


def _alternative(text: str, whole: str) -> tuple[Comparator, ...]:
    text = _BUILD.sub("", text)
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen:
        text = _from(hyphen[1], hyphen.groups()[1:5]) + " " + _to(hyphen[6], hyphen.groups()[6:])
    text = _SPACED.sub(lambda match: (match[1] or match[2]).replace(" ", ""), text)
    try:
        simple = [part for token in text.split() for part in _expand(token).split()]
        return tuple(dict.fromkeys(c for part in simple for c in _comparators(part)))
    except InvalidInput as error:
        raise InvalidInput(f"{whole!r} is not a version range", hint=_HINT) from error


def _comparators(text: str) -> Iterator[Comparator]:
    if text == ">=0.0.0":  # every stable version
        return
    match = _EXACT.fullmatch(text)
    if not match:
        raise InvalidInput(text)
    yield Comparator(match[1], strict(match[2]))


def _expand(token: str) -> str:
    """A caret, tilde or x-range as comparators; anything else as it is."""
    if match := _CARET.fullmatch(token):
        return _caret(match.groups())
    if match := _TILDE.fullmatch(token):
        return _tilde(match.groups())
    if match := _PLAIN.fullmatch(token):
        token = _plain(token, match[1], match.groups()[1:])
    return _STAR.sub("", token, count=1)


def _is_x(part: str | None) -> bool:
    return part is None or part in ("x", "X", "*")


def _between(low: str, high: tuple[int, int, int]) -> str:
    return f">={low} <{high[0]}.{high[1]}.{high[2]}-0"


def _numbers(parts: _Parts) -> tuple[int, int, int]:
    """Major, minor, patch; what is left open is 0."""
    major, minor, patch = (0 if _is_x(part) else int(part or 0) for part in parts[:3])
    return major, minor, patch


def _lowest(parts: _Parts) -> str:
    major, minor, patch = _numbers(parts)
    if _is_x(parts[1]):
        return f"{major}.0.0"
    if _is_x(parts[2]):
        return f"{major}.{minor}.0"
    return f"{major}.{minor}.{patch}" + (f"-{parts[3]}" if parts[3] else "")


def _caret(parts: _Parts) -> str:
    """Up to the next change of the first number that is not zero."""
    if _is_x(parts[0]):
        return ""
    major, minor, patch = _numbers(parts)
    if major or _is_x(parts[1]):
        high = (major + 1, 0, 0)
    elif minor or _is_x(parts[2]):
        high = (0, minor + 1, 0)
    else:
        high = (0, 0, patch + 1)
    return _between(_lowest(parts), high)


def _tilde(parts: _Parts) -> str:
    """Up to the next minor version, or the next major one if no minor is named."""
    if _is_x(parts[0]):
        return ""
    major, minor, _ = _numbers(parts)
    return _between(_lowest(parts), (major + 1, 0, 0) if _is_x(parts[1]) else (major, minor + 1, 0))


def _plain(token: str, operator: str, parts: _Parts) -> str:
    """`1.2`, `>=1.x`, `<2`: what is left open takes the side that the operator asks for."""
    x_major, x_minor, x_patch = (_is_x(part) for part in parts[:3])
    if (x_major and not x_minor) or (x_minor and not _is_x(parts[2])):
        raise InvalidInput(f"{token} names a part behind one that it leaves open")
    if x_major:
        return "<0.0.0-0" if operator in ("<", ">") else ""
    if not (x_minor or x_patch):
        return token
    major, minor, _ = _numbers(parts)
    next_one = f"{major + 1}.0.0" if x_minor else f"{major}.{minor + 1}.0"
    bounds = {
        ">": f">={next_one}",
        "<=": f"<{next_one}-0",
        "<": f"<{_lowest(parts)}-0",
        ">=": f">={_lowest(parts)}",
    }
    return bounds.get(operator) or f">={_lowest(parts)} <{next_one}-0"


def _from(text: str, parts: _Parts) -> str:
    """The left side of a hyphen."""
    if _is_x(parts[0]):
        return ""
    full = not (_is_x(parts[1]) or _is_x(parts[2]))
    return f">={text if full else _lowest(parts)}"


def _to(text: str, parts: _Parts) -> str:
    """The right side of a hyphen; a partial version takes all that begins with it."""
    if _is_x(parts[0]):
        return ""
    major, minor, _ = _numbers(parts)
    if _is_x(parts[1]):
        return f"<{major + 1}.0.0-0"
    if _is_x(parts[2]):
        return f"<{major}.{minor + 1}.0-0"
    return f"<={_lowest(parts) if parts[3] else text}"
