# SPDX-License-Identifier: BUSL-1.1
"""Source archives, for distributions without a wheel. See `_pip_finder.py` for how."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec

from axon_client.adapters import pip
from axon_client.adapters.pip import Archive, Watch
from mlos_core.errors import InvalidInput, ProtocolError

SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


def find_sdist(requirement: str) -> Archive:
    """The source archive that pip would choose.

    Raises:
        NotFound: no index has one.
    """
    found = pip.ask_finder("sdist", requirement)
    if not found:
        raise _too_new()
    return found


def fetch_sdist(requirement: str, folder: Path, watch: Watch) -> Path:
    """Fetch the source archive of exactly one version into `folder`."""
    name, _, version = requirement.partition("==")
    target = folder / "archive"
    output = pip.run_python(
        [pip.FINDER, "fetch", "sdist", name, version, str(target)],
        timeout_s=pip.DOWNLOAD_TIMEOUT_S,
        watch=watch,
    )
    try:
        url = msgspec.json.decode(output, type=Archive).url
    except msgspec.DecodeError as error:
        raise _too_new() from error
    return target.rename(folder / PurePosixPath(unquote(urlsplit(url).path)).name)


def check_kind(file_name: str) -> None:
    """Raise `InvalidInput` for a source archive that cannot be unpacked, before it is fetched."""
    if not file_name.endswith(SUFFIXES):
        raise InvalidInput(f"{file_name} is a source archive of an unknown kind")


def _too_new() -> ProtocolError:
    return ProtocolError(
        "this version of pip cannot fetch source archives for axon",
        hint="update pip, or unpack the archive yourself and 'axon install ./dir'",
    )
