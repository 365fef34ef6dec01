# SPDX-License-Identifier: BUSL-1.1
"""Memory: what processes hold, what a model will probably need, what is left.

PSS counts a page that n processes share as a n-th for each, so that sums over processes
that were forked from one host are true.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mlos_core.errors import NotFound

PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")
ESTIMATE_FACTOR: Final = 1.5
"""Files hold the weights once; frameworks keep them, repack some and need room to compute in.
An estimate that is too high unloads an idle model, one that is too low overruns the budget
until the model is measured."""


def pss_of(pids: Iterable[int], proc: Path = PROC) -> dict[int, int]:
    """Proportional set size in bytes; processes that are gone, or not ours, are left out."""
    found = ((pid, _fields(proc / str(pid) / "smaps_rollup").get("Pss")) for pid in pids)
    return {pid: count for pid, count in found if count is not None}


def _fields(path: Path) -> dict[str, int]:
    """`Name:   12 kB` lines as bytes; none where the file cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:  # ProcessLookupError too: it ended between open and read
        return {}
    pairs = (line.split() for line in lines)
    return {
        words[0].removesuffix(":"): int(words[1]) * 1024
        for words in pairs
        if len(words) == 3 and words[2] == "kB" and words[1].isdigit()
    }


def estimate(path: Path | str, factor: float = ESTIMATE_FACTOR) -> int:
    """What loading `path` will take, in bytes: the size of its files times `factor`.

    A file that is reached by two names counts once.

    Raises:
        NotFound: there is nothing at `path`.
    """
    root = Path(path)
    sizes: dict[tuple[int, int], int] = {}
    for file in _files(root):
        try:
            info = file.stat()
        except OSError:  # a dangling link
            continue
        sizes[info.st_dev, info.st_ino] = info.st_size
    if not sizes and not root.exists():
        raise NotFound(f"there is nothing at {root}", hint="check the path")
    return int(sum(sizes.values()) * factor)


def _files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def available(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Bytes that new processes may take: the machine's, or less under a cgroup's limit."""
    machine = _fields(proc / "meminfo").get("MemAvailable", 0)
    return max(0, min([machine, *_left_in_cgroups(proc, cgroups)]))


def _left_in_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What the limit of each cgroup v2 above this process leaves; page cache can be dropped."""
    for folder in _own_cgroups(proc, cgroups):
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None:
            yield limit - used + _droppable(folder / "memory.stat")


def _own_cgroups(proc: Path, cgroups: Path) -> Iterator[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return
    folder = Path(own.lstrip("/"))
    for part in (folder, *folder.parents):
        yield cgroups / part


def _number(path: Path) -> int | None:
    """The file's number; `None` where it holds `max` or is not there."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _droppable(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
