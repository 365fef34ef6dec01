# SPDX-License-Identifier: BUSL-1.1
"""A Python distribution's core metadata, as a manifest's metadata."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import Parser
from email.utils import getaddresses

from axon_client.errors import IntegrityError
from axon_client.manifest import Author, Metadata
from axon_client.spec import PackageSpec, normalize_distribution


def read_metadata(data: bytes, package: PackageSpec) -> Metadata:
    """Translate METADATA or PKG-INFO.

    Raises:
        IntegrityError: they are those of another distribution.
    """
    headers = Parser().parsestr(data.decode(errors="replace"), headersonly=True)
    name = normalize_distribution(headers.get("Name", ""))
    if name != package.name:
        raise IntegrityError(f"the archive of {package} says that it is {name or 'nameless'}")
    return Metadata(
        name=package.name,
        namespace=package.namespace,
        version=package.version,
        description=headers.get("Summary", "").strip(),
        authors=_authors(headers),
        license=_license(headers),
        homepage=_homepage(headers),
        tags=[tag for tag in re.split(r"[,\s]+", headers.get("Keywords", "")) if tag],
    )


def _authors(headers: Message) -> list[Author]:
    mails = getaddresses(headers.get_all("Author-email", []))
    found = [Author(name=name or mail, email=mail) for name, mail in mails if name or mail]
    if found and found[0].name != found[0].email:
        return found
    names = headers.get("Author", "").strip()
    if names and found:
        return [Author(name=names, email=found[0].email), *found[1:]]
    return found or ([Author(name=names)] if names else [])


def _license(headers: Message) -> str:
    stated = headers.get("License-Expression") or headers.get("License") or ""
    # Some put the whole text there; its first line would not name the licence.
    if stated and "\n" not in stated.strip():
        return str(stated).strip()
    classified = [c for c in headers.get_all("Classifier", []) if c.startswith("License :: ")]
    return classified[0].rpartition(" :: ")[2] if classified else ""


def _homepage(headers: Message) -> str:
    links = [entry.partition(",") for entry in headers.get_all("Project-URL", [])]
    urls = {label.strip().lower(): url.strip() for label, _, url in links}
    for label in ("homepage", "home", "repository", "source", "github"):
        if label in urls:
            return urls[label]
    return str(headers.get("Home-page", "")).strip()
