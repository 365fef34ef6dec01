# SPDX-License-Identifier: BUSL-1.1
"""Which names a file of a package may have, on every system that it may land on.

A name that is sound here may still climb out of its folder elsewhere, be a device there, or
be the same file as another one: systems differ in separators, reserved names, case and
Unicode normalisation. A package whose names are not sound everywhere is sound nowhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

MAX_PATH: Final = 1024
"""Bytes of a whole path."""
MAX_PART: Final = 255
"""Bytes of one part: what file systems agree on."""
MAX_PARTS: Final = 64

_WINDOWS_CHARACTERS: Final = frozenset('<>:"|?*')
_WINDOWS_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{device}{number}" for device in ("com", "lpt") for number in "123456789¹²³"]
)


def path_problem(path: str) -> str:
    """Why `path` may not name a file below some folder; empty if it may."""
    if path.startswith("/") or (len(path) > 1 and path[1] == ":"):
        return "is absolute"
    if "\\" in path or not path.isprintable():
        return "has a backslash or a control character"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part, '.' or '..'"
    if len(parts) > MAX_PARTS or len(path.encode()) > MAX_PATH:
        return f"is nested more than {MAX_PARTS} folders deep, or longer than {MAX_PATH} bytes"
    if any(len(part.encode()) > MAX_PART for part in parts):
        return f"has a part of more than {MAX_PART} bytes"
    return _looks_like_another(path) or next(filter(None, map(_windows_problem, parts)), "")


def _looks_like_another(path: str) -> str:
    """Characters that some normalisations turn into separators or dots."""
    plain = unicodedata.normalize("NFKC", path)
    disguised = plain.count("/") != path.count("/") or "\\" in plain
    if disguised or any(part in (".", "..") for part in plain.split("/")):
        return "has characters that look like '/', '\\' or '.'"
    return ""


def _windows_problem(part: str) -> str:
    if not _WINDOWS_CHARACTERS.isdisjoint(part):
        return "has a character that Windows does not allow in names"
    if part[-1] in ". ":
        return "has a part that ends with a dot or a space, which Windows leaves out"
    if part.partition(".")[0].rstrip().casefold() in _WINDOWS_DEVICES:
        return "is the name of a device on Windows"
    return ""


def fold(path: str) -> str:
    """Paths with equal folds may be one file where case or normalisation does not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


class Names:
    """The files of one package as they come, so that no two of them are one."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> str:
        """Take a file in; what is wrong with it beside the others, empty if nothing is."""
        folded = fold(path)
        if folded in self._files:
            return _same(self._files[folded], path)
        if folded in self._folders:
            return f"{path!r} is a file and the folder of {self._folders[folded]!r}"
        self._files[folded] = path
        at = folded.find("/")
        while at >= 0:
            folder = folded[:at]
            if folder in self._files:
                return f"{self._files[folder]!r} is a file and the folder of {path!r}"
            self._folders.setdefault(folder, path)
            at = folded.find("/", at + 1)
        return ""


def clash(paths: Iterable[str]) -> str:
    """What is wrong with the paths taken together; empty if nothing is."""
    names = Names()
    return next(filter(None, map(names.add, paths)), "")


def _same(one: str, other: str) -> str:
    if one == other:
        return f"{one!r} comes twice"
    same_case = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    how = "Unicode normalisation" if same_case else "case"
    return f"{one!r} and {other!r} differ in {how} alone"
