# SPDX-License-Identifier: BUSL-1.1
"""Files on any web server: `axon install https://host/model.onnx#sha256=<64 hex digits>`.

The digest is part of the name, so it does not matter who could have changed the file. A model
file becomes `https/<host>/<name>@0.0.0+<12 hex digits of its digest>`; an archive is unpacked
and is what its own manifest says.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from axon_client import manifest as manifests
from axon_client.adapters import local_archive
from axon_client.adapters.base import RemoteFile, Resolved
from axon_client.describe import complete
from axon_client.formats import SUFFIXES, format_of
from axon_client.manifest import Distribution, Manifest, Metadata, Package
from axon_client.manifest import Spec as Technical
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, Spec, UrlSpec, slug
from axon_client.store import Stage
from mlos_core.errors import InvalidInput

NAMESPACE = "https"
_CHECKPOINTS = (".bin", ".ckpt", ".pkl", ".joblib")
"""Looked at when they are here, to be refused with the reason or taken if that is allowed."""


class HttpsAdapter:
    """Single files and archives, each pinned to its digest."""

    def resolve(self, spec: Spec) -> Resolved:
        """Nothing is asked: the URL says it all, but for what an archive holds."""
        wanted = _url(spec)
        name = _file_name(wanted)
        file = RemoteFile(name, (wanted.url,), sha256=wanted.sha256)
        package = None if local_archive.is_archive(name) else _package(wanted, name)
        return Resolved(package, wanted.url, wanted.sha256, revision=wanted.sha256, files=(file,))

    def fetch(self, spec: Spec, found: Resolved, stage: Stage, progress: Progress) -> Manifest:
        """Fetch the file, unpack it if it is an archive, and describe what came."""
        wanted, (file,) = _url(spec), found.files
        inside = None
        if local_archive.is_archive(file.path):
            archive = stage.fetch(file, progress)
            size = archive.stat().st_size
            inside = local_archive.take(archive, stage, progress)
        else:
            size = stage.obtain(file, progress).size
        source = Distribution(Package(wanted.url, size, wanted.sha256))
        manifest = _named(inside or _new(_package(wanted, file.path)), source)
        return complete(
            manifest, stage.files, progress, stage.known, allow_pickle=stage.allow_pickle
        )


def _url(spec: Spec) -> UrlSpec:
    if isinstance(spec, UrlSpec):
        return spec
    raise InvalidInput(
        f"{spec} is no URL", hint="write https://host/model.onnx#sha256= and 64 hex digits"
    )


def _file_name(wanted: UrlSpec) -> str:
    name = PurePosixPath(unquote(urlsplit(wanted.url).path)).name
    known = format_of(name) or local_archive.is_archive(name) or name.endswith(_CHECKPOINTS)
    if known and not manifests.path_problem(name):
        return name
    raise InvalidInput(
        f"the URL ends with {name!r}, which is neither a model's name nor an archive's",
        hint=f"known: {', '.join([*SUFFIXES, *local_archive.SUFFIXES])}",
    )


def _package(wanted: UrlSpec, name: str) -> PackageSpec:
    host = slug(urlsplit(wanted.url).hostname or "")
    title = local_archive.stem(name) if local_archive.is_archive(name) else PurePosixPath(name).stem
    return PackageSpec(NAMESPACE, f"{host}/{slug(title)}", f"0.0.0+{wanted.sha256[:12]}")


def _new(package: PackageSpec) -> Manifest:
    metadata = Metadata(package.name, package.namespace, package.version)
    return manifests.new(metadata, Technical())


def _named(manifest: Manifest, source: Distribution) -> Manifest:
    """With where it came from."""
    return manifests.new(manifest.metadata, manifest.spec, source)
