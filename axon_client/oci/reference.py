# SPDX-License-Identifier: BUSL-1.1
"""Registries, repositories and tags, and how a package's name and version map to them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput

TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
MAX_REPOSITORY: Final = 255
_HOSTS: Final = {"docker.io": "registry-1.docker.io"}
_NO_TAG: Final = re.compile(r"[^A-Za-z0-9._-]")


class Place(msgspec.Struct, frozen=True):
    """A repository: `url` is the registry's, without a path; `name` is below it."""

    url: str
    name: str

    def __str__(self) -> str:
        return f"{urlsplit(self.url).netloc}/{self.name}"


def place_of(spec: PackageSpec, registry: str = "", own: str = "") -> Place:
    """Where a package is.

    Args:
        registry: the URL of the registry that serves the spec's namespace; empty where the
            first part of the name is the registry's host.
        own: the namespace that stands for the registry itself; any other is the first part
            of its repositories' names.

    Raises:
        InvalidInput: it names no host, or no repository can be called that.
    """
    if registry:
        parts = urlsplit(registry)
        scheme = "https" if parts.scheme == "oci" else parts.scheme
        title = spec.name if spec.namespace == own else spec.title
        return checked(f"{scheme}://{parts.netloc}", f"{parts.path}/{title}".strip("/"))
    host, _, name = spec.name.partition("/")
    if not name or ("." not in host and host != "localhost"):
        raise InvalidInput(
            f"{spec} names no registry",
            hint="write oci/<host>/<repository>, for example oci/ghcr.io/org/model; "
            "one with a port or a path gets a name: axon registry add NAME oci://HOST:PORT",
        )
    return checked(f"https://{_HOSTS.get(host, host)}", name)


def checked(url: str, name: str) -> Place:
    """A repository whose name is one.

    Raises:
        InvalidInput: it is none.
    """
    if len(name) > MAX_REPOSITORY or not REPOSITORY.fullmatch(name):
        hint = "registries know lower-case letters, digits, '.', '_', '-' and '/'"
        raise InvalidInput(f"no repository can be called {name!r}", hint=hint)
    return Place(url, name)


def tag_of(version: str) -> str:
    """The tag of a version. Tags lack `+` and `!`, which become `_`."""
    return _NO_TAG.sub("_", version)
