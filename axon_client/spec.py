# SPDX-License-Identifier: BUSL-1.1
"""Package specs: `namespace/name@version`, or the path of a folder or file.

The first segment is the namespace, the part after the last `@` the version; the name
between them may contain `/`. What starts with `.`, `/` or `~` is a path.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from axon_client.manifest import Metadata
from mlos_core.errors import InvalidInput

EXAMPLE = "write namespace/name@version, for example pypi/magika@1.0.3, or a path such as ./dir"


class PackageSpec(msgspec.Struct, frozen=True):
    """A package, with or without its version. `namespace` may be empty in look-ups only."""

    namespace: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        title = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{title}@{self.version}" if self.version else title


class PathSpec(msgspec.Struct, frozen=True):
    """A folder or a file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


def parse(text: str) -> PackageSpec | PathSpec:
    """What `axon install` is given.

    Raises:
        InvalidInput: it is neither a spec nor a path.
    """
    if text.startswith((".", "/", "~")):
        return PathSpec(Path(text).expanduser())
    spec = parse_name(text)
    if not spec.namespace:
        beside = f"; for the folder or file here write ./{text}" if Path(text).exists() else ""
        raise InvalidInput(f"{text!r} has no namespace", hint=EXAMPLE + beside)
    return spec


def parse_name(text: str) -> PackageSpec:
    """What look-ups among installed models are given: the namespace may be left out."""
    title, _, version = text.rpartition("@") if "@" in text else (text, "", "")
    namespace, _, name = title.partition("/") if "/" in title else ("", "", title)
    if "@" in text and not version:
        raise InvalidInput(f"{text!r} has no version behind the '@'", hint=EXAMPLE)
    _check(text, namespace or "any", name, version or "0")
    if namespace == "pypi":
        name = normalize_distribution(name)
    return PackageSpec(namespace, name, version)


def _check(text: str, namespace: str, name: str, version: str) -> None:
    try:
        msgspec.convert({"namespace": namespace, "name": name, "version": version}, Metadata)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        value = {"namespace": namespace, "name": name, "version": version}[field]
        raise InvalidInput(
            f"{text!r} is not a package spec: {field} {value!r} is not allowed", hint=EXAMPLE
        ) from error


def normalize_distribution(name: str) -> str:
    """The one spelling the Python index uses: `Silero_VAD` is `silero-vad`."""
    return re.sub(r"[-_.]+", "-", name).lower()
