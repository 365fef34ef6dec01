# SPDX-License-Identifier: BUSL-1.1
"""Real files of this machine, as different from each other as can be had."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_MOST: Final = 12
_LOOKED_AT: Final = 4000
_SMALLEST: Final = 200
_SHARED: Final = ("/usr/share", "/usr/lib", "/etc")
_WANTED: Final = frozenset(
    {".png", ".jpg", ".gif", ".svg", ".gz", ".xml", ".html", ".css", ".js", ".zip", ".ttf"}
    | {".pdf", ".sh", ".conf", ".toml", ".yaml", ".h", ".c", ".csv", ".pem", ".whl", ".so", ".ico"}
)


def pick(extra: Iterable[Path], count: int = _MOST) -> list[Path]:
    """At most `count` readable files: `extra`, some that Python brings, some found here."""
    chosen: dict[Path, None] = {}
    kinds: set[str] = set()
    for path in itertools.chain(extra, _python(), _found()):
        kind = path.suffix.lower() or path.name
        if len(chosen) == count:
            break
        if kind not in kinds and _usable(path):
            kinds.add(kind)
            chosen[path.resolve()] = None
    return list(chosen)


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size >= _SMALLEST and os.access(path, os.R_OK)
    except OSError:
        return False


def _python() -> Iterator[Path]:
    yield Path(sys.executable)
    source = Path(json.__file__)
    yield source
    yield Path(importlib.util.cache_from_source(str(source)))
    yield Path(sysconfig.get_path("include")) / "Python.h"
    yield Path("/etc/services")


def _found() -> Iterator[Path]:
    """Files with a suffix of interest; the search is bounded, whatever the machine holds."""
    sites = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), *_SHARED]
    for folder in sites:
        for path in itertools.islice(_walk(folder), _LOOKED_AT):
            if path.suffix.lower() in _WANTED:
                yield path


def _walk(folder: str) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(root) / name
