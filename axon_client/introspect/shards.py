# SPDX-License-Identifier: BUSL-1.1
"""Models in several files: `model-00001-of-00003.safetensors` and the two beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mlos_core.errors import LoadFailed

_SHARD: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_MOST: Final = 4096


def shards_of(path: Path) -> list[Path]:
    """All files of the model that `path` is one of, itself included.

    Raises:
        LoadFailed: one is missing.
    """
    found = _SHARD.fullmatch(path.stem)
    if found is None:
        return [path]
    count = int(found[3])
    if not 1 <= count <= _MOST:
        raise LoadFailed(f"{path.name} says that it is one of {count}")
    names = [f"{found[1]}-{n:05}-of-{count:05}{path.suffix}" for n in range(1, count + 1)]
    files = [path.with_name(name) for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise LoadFailed(
            f"{len(missing)} of {count} parts of {found[1]} are missing, {missing[0]} first",
            hint="fetch all of them",
        )
    return files
