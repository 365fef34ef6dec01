# SPDX-License-Identifier: BUSL-1.1
"""Source archives, for distributions without a wheel. See `_pip_sdist.py` for how."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec

from axon_client.adapters import pip
from axon_client.adapters.pip import Archive, Watch
from mlos_core.errors import InvalidInput, ProtocolError

_SCRIPT = str(Path(__file__).with_name("_pip_sdist.py"))


class _Answer(msgspec.Struct):
    version: str
    url: str
    sha256: str


def find_sdist(requirement: str) -> Archive:
    """The source archive that pip would choose.

    Raises:
        NotFound: no index has one.
    """
    name, _, version = requirement.partition("==")
    output = pip.run_python([_SCRIPT, "find", name, version], timeout_s=pip.RESOLVE_TIMEOUT_S)
    found = _answer(output)
    return Archive(name, found.version, found.url, found.sha256)


def fetch_sdist(requirement: str, folder: Path, watch: Watch) -> Path:
    """Fetch the source archive of exactly one version into `folder`."""
    name, _, version = requirement.partition("==")
    target = folder / "archive"
    output = pip.run_python(
        [_SCRIPT, "fetch", name, version, str(target)],
        timeout_s=pip.DOWNLOAD_TIMEOUT_S,
        watch=watch,
    )
    file_name = PurePosixPath(unquote(urlsplit(_answer(output).url).path)).name
    if not file_name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")):
        raise InvalidInput(f"{requirement} is a source archive of an unknown kind: {file_name}")
    return target.rename(folder / file_name)


def _answer(output: bytes) -> _Answer:
    try:
        return msgspec.json.decode(output, type=_Answer)
    except msgspec.DecodeError as error:
        raise ProtocolError(
            f"this version of pip cannot fetch source archives for axon: {error}",
            hint="update pip, or unpack the archive yourself and 'axon install ./dir'",
        ) from error
