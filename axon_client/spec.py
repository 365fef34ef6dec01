# SPDX-License-Identifier: BUSL-1.1
"""Package specs: `namespace/name@selector`, the path of a folder or file, or a URL.

The first segment is the namespace, the part after the last `@` the selector; the name
between them may contain `/`. What starts with `.`, `/` or `~` is a path, what starts with
`https://` a file to fetch, which names its digest: `https://host/model.onnx#sha256=<hex>`.

A selector is an exact version (`1.2.3`, `1.0.3.post1`), a range of npm's (`^1.2`, `~1.2.3`,
`1.x`, `>=1,<3`), a tag (`latest`, a branch) or a digest (`sha256:<64 hex digits>`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from axon_client import versions
from axon_client.manifest import Metadata
from mlos_core.errors import InvalidInput

EXAMPLE: Final = (
    "write namespace/name@version, for example pypi/magika@1.0.3, or a path such as ./dir"
)
MAX_LENGTH: Final = 4096

Kind = Literal["any", "exact", "range", "tag", "digest"]

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}")
_RANGE_ONLY: Final = re.compile(r"[ ,|<>=~^*]")
_FOREIGN: Final = re.compile(r"([^@=<>:\s]+)@?(==|>=|<=|<|>|:)\s*([^=<>:/\s][^/]*)")
"""What pip and docker write: a name, a sign and a version."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class PackageSpec(msgspec.Struct, frozen=True):
    """A package; `version` is a selector or empty. `namespace` may be empty in look-ups only."""

    namespace: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.title}@{self.version}" if self.version else self.title

    @property
    def title(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def at(self, version: str) -> PackageSpec:
        """The same package with another selector."""
        return PackageSpec(self.namespace, self.name, version)


class PathSpec(msgspec.Struct, frozen=True):
    """A folder or a file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class UrlSpec(msgspec.Struct, frozen=True):
    """A file on a web server, pinned to the hex SHA-256 of its bytes."""

    url: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.url}#sha256={self.sha256}"


Spec = PackageSpec | PathSpec | UrlSpec


def parse(text: str) -> Spec:
    """What `axon install` is given.

    Raises:
        InvalidInput: it is neither a spec, nor a path, nor a URL with a digest.
    """
    if text.startswith((".", "/", "~")):
        return PathSpec(_path(text))
    if _URL.match(text):
        return _parse_url(text)
    spec = parse_name(text)
    if not spec.namespace:
        beside = f"; for the folder or file here write ./{text}" if _is_here(text) else ""
        raise InvalidInput(f"{text!r} has no namespace", hint=EXAMPLE + beside)
    return spec


def _path(text: str) -> Path:
    if len(text) > MAX_LENGTH or "\0" in text:
        raise InvalidInput("that is no path: it is too long, or has a null character in it")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidInput(f"{text!r}: {error}") from error


def _is_here(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _parse_url(text: str) -> UrlSpec:
    url, _, fragment = text.partition("#")
    digest = fragment.removeprefix("sha256=")
    if len(text) > MAX_LENGTH or not (text.isascii() and text.isprintable()) or " " in text:
        raise InvalidInput(f"{text[:200]!r} is not a URL", hint="percent-encode other characters")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname)
        hidden = parts.username is not None or parts.password is not None
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a URL: {error}") from error
    if not whole:
        raise InvalidInput(f"{text!r} has no source", hint="a URL starts with https://")
    if hidden:
        raise InvalidInput(
            f"the URL for {parts.hostname} has a password in it",
            hint=f"leave it out, and put a login for {parts.hostname} into ~/.netrc",
        )
    if fragment == digest or not DIGEST.fullmatch(f"sha256:{digest}"):
        raise InvalidInput(
            f"{url} comes without the digest that its bytes must have",
            hint="append #sha256= and 64 lower-case hex digits, as sha256sum prints them",
        )
    return UrlSpec(url, digest)


def parse_name(text: str) -> PackageSpec:
    """What look-ups among installed models are given: the namespace may be left out."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"a spec of {len(text)} characters is too long", hint=EXAMPLE)
    title, _, version = text.rpartition("@") if "@" in text else (text, "", "")
    namespace, _, name = title.partition("/") if "/" in title else ("", "", title)
    if "@" in text and not version.strip():
        raise InvalidInput(f"{text!r} has no version behind the '@'", hint=EXAMPLE)
    _check(text, namespace or "any", name)
    if version:
        check_selector(version, text)
    if namespace == "pypi":
        name = normalize_distribution(name)
    return PackageSpec(namespace, name, version)


def _check(text: str, namespace: str, name: str) -> None:
    fields = {"namespace": namespace, "name": name, "version": "0"}
    try:
        msgspec.convert(fields, Metadata)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        raise InvalidInput(
            f"{text!r} is not a package spec: {field} {fields.get(field, '')!r} is not allowed",
            hint=_meant(text) or EXAMPLE,
        ) from error


def _meant(text: str) -> str:
    """How what pip or docker would be given is written here; empty if it is not that either."""
    found = _FOREIGN.fullmatch(text)
    if not found:
        return ""
    title, sign, rest = found.groups()
    selector = rest if sign in ("==", ":") else sign + rest
    meant = f"{title}@{selector}" if "/" in title else f"{title}/{rest}"
    if meant == text or ("/" not in title and sign != ":"):
        return ""
    try:
        parse_name(meant)
    except InvalidInput:
        return ""
    return f"write {meant!r}"


def check_selector(selector: str, whole: str = "") -> None:
    """Accept what `kind_of` knows.

    Raises:
        InvalidInput: it is no version, range, tag or digest; shows what they look like.
    """
    try:
        kind_of(selector)
    except InvalidInput as error:
        raise InvalidInput(
            f"{whole or selector!r} is not a package spec: {error.message}",
            hint=_meant(whole) or error.hint or EXAMPLE,
        ) from error


def kind_of(selector: str) -> Kind:
    """What a selector asks for. `1.2` is a range, `1.2.3` and a whole commit are exact.

    Raises:
        InvalidInput: it is no selector.
    """
    if selector in ("", "*"):
        return "any"
    if not (selector.isascii() and selector.isprintable()):
        raise InvalidInput(f"version {selector!r} is not allowed", hint=EXAMPLE)
    if selector.startswith("sha256:"):
        return _digest(selector)
    if _RANGE_ONLY.search(selector):
        versions.parse_range(selector)
        return "range"
    if not _TAG.fullmatch(selector):
        raise InvalidInput(f"version {selector!r} is not allowed", hint=EXAMPLE)
    if versions.is_range(selector) and not versions.is_semantic(selector):
        return "range"
    exact = versions.parse(selector) is not None or _COMMIT.fullmatch(selector)
    return "exact" if exact else "tag"


def _digest(selector: str) -> Kind:
    if not DIGEST.fullmatch(selector):
        raise InvalidInput(
            f"{selector[:80]!r} is no digest", hint="sha256: and 64 lower-case hex digits"
        )
    return "digest"


def slug(text: str, hint: str = "give one with --as NAMESPACE/NAME@VERSION") -> str:
    """A text as one segment of a package's name.

    Raises:
        InvalidInput: nothing is left of it; `hint` says how to give another.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    if not name:
        raise InvalidInput(f"{text!r} cannot be a package's name", hint=hint)
    return name[:128]


def normalize_distribution(name: str) -> str:
    """The one spelling the Python index uses: `Silero_VAD` is `silero-vad`."""
    return re.sub(r"[-_.]+", "-", name).lower()
