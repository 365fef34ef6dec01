# SPDX-License-Identifier: BUSL-1.1
"""The paths of an axon registry, as its client uses them; `docs/registry.md` has them all.

Everything that comes is parsed into strict types. Digests are checked where they are known.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from axon_client import credentials, manifest
from axon_client.errors import IntegrityError
from axon_client.pack import file_name
from axon_client.remote.exchange import Exchange
from axon_client.remote.records import About, Detail, Entry, Filters, Identity, Index
from axon_client.spec import PackageSpec
from mlos_core.errors import NotFound, ProtocolError

T = TypeVar("T")


class Remote:
    """The registry at `url`.

    Args:
        url: where it is; paths are appended.
        home: whose credentials are used.
        credential: shown instead of what is kept for its host.
    """

    def __init__(
        self,
        url: str,
        home: Path | None = None,
        credential: credentials.Credential | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.exchange = Exchange(self.url, home, credential)
        self._about: About | None = None

    def about(self) -> About:
        """What the registry says of itself; asked once."""
        if self._about is None:
            try:
                self._about = self._get("/api/v1/registry.json", About)
            except NotFound:
                self._about = About(original=True)
        return self._about

    def search(self, query: str, filters: Filters, limit: int) -> tuple[list[Entry], int]:
        """Packages that fit, the best first, and how many there are in all."""
        wanted = [("q", query), *filters.parameters, ("limit", str(limit))]
        answer = self.exchange.ask("GET", f"/api/v1/search?{urlencode(wanted)}")
        found = _decode(answer.data, list[Entry], self.url)[:limit]
        total = answer.headers.get("X-Total-Count", "")
        counted = re.fullmatch(r"[0-9]{1,15}", total)
        return found, int(total) if counted else len(found)

    def facets(self, query: str, filters: Filters) -> dict[str, dict[str, int]]:
        """How many hits there are of each framework, format, licence, tag and namespace."""
        wanted = [("q", query), *filters.parameters]
        return self._get(f"/api/v1/facets?{urlencode(wanted)}", dict[str, dict[str, int]])

    def everything(self) -> list[Entry]:
        """All packages, of a static registry."""
        return self._get("/api/v1/index.json", list[Entry])

    def package(self, spec: PackageSpec) -> Index:
        """The versions and tags of a package.

        Raises:
            NotFound: there is no such package.
        """
        return self._get(f"{_package(spec)}/-/index.json", Index)

    def detail(self, spec: PackageSpec) -> Detail:
        """Signatures and the like of one exact version."""
        return self._get(f"{_version(spec)}.json", Detail)

    def manifest(self, spec: PackageSpec, sha256: str = "") -> bytes:
        """The exact bytes that were published.

        Raises:
            IntegrityError: they have another digest than `sha256`.
        """
        path = f"{_package(spec)}/{quote(spec.version, safe='')}/manifest.yaml"
        data = self.exchange.ask("GET", path, limit=manifest.MAX_BYTES).data
        found = hashlib.sha256(data).hexdigest()
        if sha256 and found != sha256:
            raise IntegrityError(
                f"the manifest of {spec} has sha256 {found}, the index of {self.url} says {sha256}",
                hint="do not use it; tell the registry's owner if it stays",
            )
        return data

    def blob_url(self, sha256: str) -> str:
        """Where a file's bytes are."""
        return f"{self.url}/api/v1/blobs/sha256/{sha256}"

    def has_blob(self, sha256: str) -> bool:
        """Whether the registry has a file's bytes."""
        try:
            self.exchange.ask("HEAD", f"/api/v1/blobs/sha256/{sha256}")
        except NotFound:
            return False
        return True

    def archive_url(self, spec: PackageSpec) -> str:
        """Where the original registries have a version's archive."""
        return f"{self.url}/packages/{quote(file_name(spec))}"

    def whoami(self) -> Identity:
        """Whom the token makes us.

        Raises:
            PermissionDenied: the token is not valid.
        """
        return self._get("/api/v1/whoami", Identity)

    # --- changing ---------------------------------------------------------------------

    def put_version(self, spec: PackageSpec, body: dict[str, Any]) -> bool:
        """Publish a version; False if the same is there already.

        Raises:
            AlreadyExists: the version is there with other content.
            PermissionDenied: the token may not publish there.
        """
        return self.exchange.ask("PUT", _version(spec), body=body).status == 201

    def yank(self, spec: PackageSpec, reason: str | None) -> None:
        """Mark a version as one that nobody should choose; None takes that back."""
        body = None if reason is None else {"reason": reason}
        self.exchange.ask(
            "DELETE" if reason is None else "POST", f"{_version(spec)}/yank", body=body
        )

    def set_tag(self, spec: PackageSpec, tag: str) -> None:
        """Let a tag name the spec's version."""
        path = f"{_package(spec)}/-/tags/{quote(tag, safe='')}"
        self.exchange.ask("PUT", path, body={"version": spec.version})

    def remove_tag(self, spec: PackageSpec, tag: str) -> None:
        """Remove a tag."""
        self.exchange.ask("DELETE", f"{_package(spec)}/-/tags/{quote(tag, safe='')}")

    def _get(self, path: str, kind: type[T]) -> T:
        return _decode(self.exchange.ask("GET", path).data, kind, self.url)


def _package(spec: PackageSpec) -> str:
    return f"/api/v1/models/{spec.namespace}/{spec.name}"


def _version(spec: PackageSpec) -> str:
    return f"{_package(spec)}/-/versions/{quote(spec.version, safe='')}"


def _decode(data: bytes, kind: type[T], url: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"{url} answers with something else than a registry would: {error}",
            hint="check the registry's URL: axon registry list",
        ) from error
