# SPDX-License-Identifier: BUSL-1.1
"""What a store holds, and what of it is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from axon_client.manifest import ModelFile
from axon_client.models import InstalledModel
from axon_client.store.content import Content
from axon_client.store.partial import Partial
from mlos_core.errors import InvalidInput

State = Literal["installed", "linked", "kept", "unused"]


class Held(msgspec.Struct, frozen=True):
    """One blob.

    Attributes:
        state: `installed` if a model lists it, `linked` if a hard link from elsewhere keeps
            it, `kept` if it was fetched within a day and is not installed yet, `unused` if
            `gc` would delete it.
        used_by: the models that list it.
    """

    digest: str
    bytes: int
    state: State
    used_by: tuple[str, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """The sums.

    Attributes:
        blobs, blob_bytes: what is stored, once each.
        models, model_bytes: what is installed, as if no file were shared.
        unused, unused_bytes: the blobs that `gc` would delete.
        kept, kept_bytes: those fetched for an installation that did not end.
        partials, partial_bytes: unfinished downloads; of them, `claimed` are under way.
        stages: installations under way, or dead and not cleared yet.
    """

    blobs: int
    blob_bytes: int
    models: int
    model_bytes: int
    unused: int
    unused_bytes: int
    kept: int
    kept_bytes: int
    partials: int
    partial_bytes: int
    claimed: int
    stages: int


def held(content: Content, models: Sequence[InstalledModel]) -> list[Held]:
    """Every blob, the largest first."""
    users: dict[str, list[str]] = defaultdict(list)
    for model in models:
        for digest in {file.sha256 for file in _files(model)}:
            users[digest].append(str(model.spec))
    kept, found = content.leases.current(), []
    for digest in content.blobs.names():
        with suppress(FileNotFoundError):  # gc may have taken it meanwhile
            status = content.blobs.path(digest).stat()
            state = _state(digest in users, status.st_nlink, digest in kept)
            by = tuple(sorted(users.get(digest, ())))
            found.append(Held(digest, status.st_size, state, by))
    return sorted(found, key=lambda one: (-one.bytes, one.digest))


def _state(used: bool, links: int, kept: bool) -> State:
    if used:
        return "installed"
    if links > 1:
        return "linked"
    return "kept" if kept else "unused"


def _files(model: InstalledModel) -> list[ModelFile]:
    try:
        return model.manifest.spec.format.files
    except InvalidInput:
        return []


def sums(
    blobs: Sequence[Held],
    models: Sequence[InstalledModel],
    partials: Sequence[Partial],
    stages: int,
) -> Usage:
    """Add up."""
    by = {state: [one.bytes for one in blobs if one.state == state] for state in ("unused", "kept")}
    return Usage(
        blobs=len(blobs),
        blob_bytes=sum(one.bytes for one in blobs),
        models=len(models),
        model_bytes=sum(file.size for model in models for file in _files(model)),
        unused=len(by["unused"]),
        unused_bytes=sum(by["unused"]),
        kept=len(by["kept"]),
        kept_bytes=sum(by["kept"]),
        partials=len(partials),
        partial_bytes=sum(one.bytes for one in partials),
        claimed=sum(one.claimed for one in partials),
        stages=stages,
    )
