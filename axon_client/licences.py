# SPDX-License-Identifier: BUSL-1.1
"""Which licence a package is under, as far as its files say: SPDX names where they are known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

_MOST: Final = 64 << 10
_FILES: Final = re.compile(r"(licen[cs]e|copying|unlicense)([._-].*)?", re.IGNORECASE)
_CARD: Final = re.compile(r"readme\.(md|markdown)", re.IGNORECASE)
_FRONT: Final = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?$", re.DOTALL | re.MULTILINE)
_STATED: Final = re.compile(
    r"^license:[ \t]*[\"']?([A-Za-z0-9][A-Za-z0-9 .+_-]{0,63}?)[\"']?[ \t]*$", re.M
)
# Words that a licence's text begins with, the longer names first.
_TEXTS: Final = (
    ("Apache License Version 2.0", "Apache-2.0"),
    ("GNU AFFERO GENERAL PUBLIC LICENSE Version 3", "AGPL-3.0"),
    ("GNU LESSER GENERAL PUBLIC LICENSE Version 3", "LGPL-3.0"),
    ("GNU LESSER GENERAL PUBLIC LICENSE Version 2.1", "LGPL-2.1"),
    ("GNU GENERAL PUBLIC LICENSE Version 3", "GPL-3.0"),
    ("GNU GENERAL PUBLIC LICENSE Version 2", "GPL-2.0"),
    ("Mozilla Public License Version 2.0", "MPL-2.0"),
    ("Creative Commons Attribution-NonCommercial 4.0", "CC-BY-NC-4.0"),
    ("Creative Commons Attribution-ShareAlike 4.0", "CC-BY-SA-4.0"),
    ("Creative Commons Attribution 4.0", "CC-BY-4.0"),
    ("CC0 1.0 Universal", "CC0-1.0"),
    ("Business Source License 1.1", "BUSL-1.1"),
    ("This is free and unencumbered software released into the public domain", "Unlicense"),
    ("BSD 3-Clause", "BSD-3-Clause"),
    ("BSD 2-Clause", "BSD-2-Clause"),
    ("ISC License", "ISC"),
    ("MIT License", "MIT"),
    ("Permission is hereby granted, free of charge, to any person obtaining", "MIT"),
    ("Gemma Terms of Use", "gemma"),
    ("LLAMA 3 COMMUNITY LICENSE", "llama3"),
    ("LLAMA 2 COMMUNITY LICENSE", "llama2"),
)


def licence_files(paths: Iterable[str]) -> list[str]:
    """The files that are called like a licence's text."""
    return [path for path in paths if _FILES.fullmatch(PurePosixPath(path).name)]


def find_licence(folder: Path, paths: Iterable[str]) -> str:
    """What a model card or the text of a licence says; empty if nothing does."""
    paths = list(paths)
    for path in paths:
        if _CARD.fullmatch(PurePosixPath(path).name):
            stated = stated_in(_head(folder / path))
            if stated:
                return stated
    texts = [recognise(_head(folder / path)) for path in licence_files(paths)]
    known = sorted(set(filter(None, texts)))
    return known[0] if len(known) == 1 else ""


def stated_in(card: str) -> str:
    """The licence in the front matter of a model card."""
    front = _FRONT.search(card)
    found = _STATED.search(front[1]) if front else None
    return found[1] if found else ""


def recognise(text: str) -> str:
    """The licence whose text this is; empty if it is none of the known ones."""
    plain = " ".join(re.sub(r"[,*#=_\"-]", " ", text[:4000]).lower().split())
    for words, name in _TEXTS:
        if " ".join(re.sub(r"[,-]", " ", words).lower().split()) in plain:
            return name
    return ""


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except OSError:
        return ""
