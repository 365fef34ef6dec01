# SPDX-License-Identifier: BUSL-1.1
"""Media types and annotations of OCI and of ModelPack."""

from __future__ import annotations

import re
from typing import Final

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
ARTIFACT: Final = "application/vnd.cncf.model.manifest.v1+json"
CONFIG: Final = "application/vnd.cncf.model.config.v1+json"

PATH: Final = "org.cncf.model.filepath"
TITLE: Final = "org.opencontainers.image.title"
UNPACK: Final = "io.deis.oras.content.unpack"
PACKAGE: Final = "io.mlos.axon.package"
SIGNATURES: Final = "io.mlos.axon.signatures"

_MODELPACK: Final = re.compile(
    r"application/vnd\.cncf\.model\.(?:weight|weight\.config|doc|code|dataset)\.v1\."
    r"(?:raw|(tar(?:\+gzip|\+zstd)?))"
)
_IMAGE_LAYER: Final = re.compile(
    r"application/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs\.diff)(?:\.v1)?"
    r"\.tar(?:[.+](?:gzip|zstd))?"
)
_ARCHIVE_NAME: Final = re.compile(r"\.(?:tar|tgz|gz|zst|zip|axon|whl)$")
_UNNAMED: Final = {
    "application/vnd.docker.ai.gguf.v3": "model.gguf",
    "application/vnd.docker.ai.license": "LICENSE",
}
"""What some tools push without saying what it is called."""


def is_modelpack(media_type: str) -> bool:
    """Whether a layer is one of ModelPack's."""
    return _MODELPACK.fullmatch(media_type) is not None


def is_archive(media_type: str, annotations: dict[str, str]) -> bool:
    """Whether a layer is a tar archive of files, and no file itself.

    oras calls single files image layers too: they have a title, and a folder's archive is
    compressed or says that it is to be unpacked.
    """
    found = _MODELPACK.fullmatch(media_type)
    if found:
        return found[1] is not None
    if not _IMAGE_LAYER.fullmatch(media_type):
        return False
    title = annotations.get(TITLE, "")
    if not title or annotations.get(UNPACK) == "true":
        return True
    return media_type != "application/vnd.oci.image.layer.v1.tar" and not _ARCHIVE_NAME.search(
        title
    )


def path_of(media_type: str, annotations: dict[str, str]) -> str:
    """What a layer that is one file is called; empty if nothing says so."""
    return annotations.get(PATH) or annotations.get(TITLE) or _UNNAMED.get(media_type, "")
