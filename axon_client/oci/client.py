# SPDX-License-Identifier: BUSL-1.1
"""One repository of an OCI registry: its manifests, tags and small blobs.

The requests are few and plain, and go through `axon_client.net`, which has what they need
beside: proxies, redirects, bounds, tokens for their own host. The oras library would bring a
second HTTP stack, reads whole blobs into memory on their way up, and leaves digests and
resumption to its callers; it is the judge in the tests instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable
from urllib.parse import quote, urlencode, urljoin

import msgspec

from axon_client.errors import IntegrityError
from axon_client.net import Clock, Options
from axon_client.net.access import kept_for, origin, redirected
from axon_client.net.client import Answer, Client
from axon_client.net.faults import Transient, Unusable, check_status, explain, retrying
from axon_client.net.options import configured
from axon_client.oci import media
from axon_client.oci.artifact import MAX_BYTES, digest_of
from axon_client.oci.login import Login
from axon_client.oci.reference import Place
from axon_client.spec import DIGEST
from mlos_core.errors import AlreadyExists, MlosError, NotFound, ProtocolError

ACCEPTED: Final = ", ".join((media.MANIFEST, media.INDEX, media.DOCKER_MANIFEST))
_ATTEMPTS: Final = 4
_MOST_TAGS: Final = 100_000
_PAGE: Final = 1000
_MOST_PAGES: Final = 1000
_MOST_ERROR: Final = 64 << 10
_NEXT: Final = re.compile(r"<([^>]{1,4096})>\s*;\s*rel=\"?next\"?")


@runtime_checkable
class Body(Protocol):
    """What a request brings and is not in memory."""

    def __len__(self) -> int: ...

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes."""
        ...

    def rewind(self) -> None:
        """Begin again."""
        ...


Brought = bytes | Body | None


class Repository:
    """A repository. Not to be shared between threads."""

    def __init__(self, place: Place, options: Options | None = None) -> None:
        self.place = place
        self._options = options or configured()
        self._client = Client(self._options)
        self._login = Login(place.url, self._options)
        self.base = f"{place.url}/v2/{place.name}"

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def clock(self) -> Clock:
        """What retries wait by."""
        return self._options.clock

    def blob_url(self, digest: str) -> str:
        """Where a blob is; `pull_headers` go with it."""
        return f"{self.base}/blobs/{digest}"

    def pull_headers(self, digest: str, *, fresh: bool = False) -> tuple[tuple[str, str], ...]:
        """What a download of a blob shows the registry.

        Args:
            digest: of a manifest, which is asked for if there is no token yet.
            fresh: another token than the last one, which may be too old.
        """
        if fresh:
            self._login = Login(self.place.url, self._options)
        if not self._login.headers(self.scope("pull")):
            url = f"{self.base}/manifests/{digest}"
            self.send("HEAD", url, {"Accept": ACCEPTED}).close()
        return tuple(self._login.headers(self.scope("pull")).items())

    def scope(self, actions: str) -> str:
        """What a token must be for."""
        return f"repository:{self.place.name}:{actions}"

    # --- reading ----------------------------------------------------------------------

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """A manifest that a tag or digest names, and its digest.

        Raises:
            NotFound: there is none.
            IntegrityError: it has another digest than asked for, or than the registry says.
        """
        url = f"{self.base}/manifests/{quote(reference, safe=':')}"
        data, headers = self._read(url, MAX_BYTES, {"Accept": ACCEPTED})
        stated = headers.get("Docker-Content-Digest", "")
        digest = digest_of(data)
        expected = reference if DIGEST.fullmatch(reference) else stated
        if expected and digest != expected and expected.startswith("sha256:"):
            raise IntegrityError(
                f"the manifest of {self.place}@{reference} has the digest {digest}, not {expected}",
                hint="do not use it; tell the registry's owner if it stays",
            )
        return data, digest

    def blob(self, digest: str, limit: int) -> bytes:
        """A small blob.

        Raises:
            IntegrityError: it has another digest.
        """
        data, _ = self._read(self.blob_url(digest), limit)
        if digest_of(data) != digest:
            raise IntegrityError(f"the blob {digest} of {self.place} has another digest")
        return data

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        try:
            with self.send("HEAD", self.blob_url(digest), actions="pull,push"):
                return True
        except NotFound:
            return False

    def tags(self) -> list[str]:
        """Every tag.

        Raises:
            NotFound: there is no such repository.
        """
        found: list[str] = []
        url = f"{self.base}/tags/list?n={_PAGE}"
        for _ in range(_MOST_PAGES):
            page, headers = self._read(url, MAX_BYTES)
            found += _tags(page, str(self.place))
            url = self._next(url, headers.get("Link", ""))
            if not url or len(found) >= _MOST_TAGS:
                return found
        raise ProtocolError(f"{self.place} has its tags on more than {_MOST_PAGES} pages")

    def _next(self, url: str, link: str) -> str:
        """The next page; empty if there is none.

        Raises:
            ProtocolError: it is at another registry.
        """
        following = _NEXT.search(link)
        if not following:
            return ""
        found: str = urljoin(url, following[1])
        if origin(found) != origin(url):
            raise ProtocolError(f"{self.place} sends us to another host for its tags")
        return found

    # --- writing ----------------------------------------------------------------------

    def put_manifest(self, data: bytes, reference: str) -> None:
        """Give a manifest a tag, or its digest alone.

        Raises:
            AlreadyExists: the tag is taken, and may not be moved.
        """
        url = f"{self.base}/manifests/{quote(reference, safe=':')}"
        headers = {"Content-Type": media.MANIFEST}
        with self.send("PUT", url, headers, data, actions="pull,push") as answer:
            stated = answer.headers.get("Docker-Content-Digest", "")
        if stated.startswith("sha256:") and stated != digest_of(data):
            raise IntegrityError(f"{self.place} has kept another manifest than it was given")

    # --- the wire ---------------------------------------------------------------------

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = {},
        body: Brought = None,
        *,
        actions: str = "pull",
        also: str = "",
        attempts: int = _ATTEMPTS,
    ) -> Answer:
        """A successful answer, asked for again while that may help; close it.

        Args:
            actions: what the token must allow here.
            also: the scope that it needs elsewhere.

        Raises:
            MlosError: what the registry says is wrong.
        """
        scope = f"{self.scope(actions)} {also}".strip()
        return retrying(
            lambda: self._checked(method, url, headers, body, scope), attempts, self.clock
        )

    def _read(
        self, url: str, limit: int, headers: Mapping[str, str] = {}
    ) -> tuple[bytes, Mapping[str, str]]:
        """A whole body and its headers."""

        def once() -> tuple[bytes, Mapping[str, str]]:
            with self._checked("GET", url, headers, None, self.scope("pull")) as answer:
                return answer.read(limit), answer.headers

        return retrying(once, _ATTEMPTS, self.clock)

    def _checked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Brought,
        scope: str,
    ) -> Answer:
        answer = self._once(method, url, headers, body, scope)
        if answer.status == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.close()
            if self._login.answer(challenge, scope):
                if isinstance(body, Body):
                    body.rewind()
                answer = self._once(method, url, headers, body, scope)
        if 200 <= answer.status < 300:
            return answer
        with answer:
            said = _said(answer)
            try:
                check_status(answer.status, answer.headers, url, self._options.clock.unix())
            except Unusable as fault:
                raise _named(fault.error, answer.status, said) from fault
        raise ProtocolError(f"{explain(answer.status, url).message}{said}")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Brought,
        scope: str,
    ) -> Answer:
        shown = {**headers, **(self._login.headers(scope) or kept_for(self.place.url))}
        if body is not None:
            shown["Content-Length"] = str(len(body))
        home = origin(self.place.url)
        # Where the registry sends us, nothing is done in the user's name: it chose what.
        return self._client.request(method, url, shown, body, home, kept=False)

    def target(self, answer: Answer) -> str:
        """Where an answer's `Location` leads.

        Raises:
            ProtocolError: nowhere.
        """
        location = answer.headers.get("Location")
        if not location:
            raise ProtocolError(f"{self.place} begins an upload and does not say where")
        try:
            return redirected(answer.url, location)
        except Unusable as fault:
            raise fault.error from fault


def with_query(url: str, **values: str) -> str:
    """`url` with more in its query."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"


def _said(answer: Answer) -> str:
    """What a registry says of an error."""
    try:
        errors = msgspec.json.decode(answer.read(_MOST_ERROR))["errors"]
        texts = [f"{e.get('code', '')} {e.get('message', '')}".strip() for e in errors[:3]]
        text = "; ".join(filter(None, texts))
    except (Transient, Unusable, msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError,
            AttributeError):  # fmt: skip
        return ""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return f": {clean[:500]}" if clean else ""


def _named(error: MlosError, status: int, said: str) -> MlosError:
    kind: type[MlosError] = AlreadyExists if status in (409, 412) else type(error)
    return kind(error.message + said, hint=error.hint)


def _tags(page: bytes, title: str) -> list[str]:
    class Page(msgspec.Struct):
        tags: list[str] | None = None

    try:
        return msgspec.json.decode(page, type=Page).tags or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{title} answers with no list of tags: {error}") from error
