# SPDX-License-Identifier: BUSL-1.1
"""What a hub refuses, in our words: who is at fault and what to do about it.

Imports huggingface_hub, so only who talks to a hub imports this.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from huggingface_hub import errors as kinds

from mlos_core.errors import (
    MlosError,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)

if TYPE_CHECKING:
    from axon_client.adapters.hf_hub import Hub
    from axon_client.adapters.hf_version import Refs

HTTP = kinds.HfHubHTTPError
_NEAR: Final = 20
_SHOWN: Final = 20


def may_pass(error: Exception) -> bool:
    """Whether asking again may help."""
    return isinstance(error, Unavailable) or (
        isinstance(error, HTTP) and error.response.status_code >= 500
    )


def explain(error: HTTP, hub: Hub, name: str, revision: str) -> MlosError:
    """The error for what `hub` answered about the repository `name`."""
    status = error.response.status_code
    if isinstance(error, kinds.GatedRepoError):
        return _gated(hub, name)
    if isinstance(error, kinds.RevisionNotFoundError):
        return NotFound(
            f"{name} has no revision {revision!r}", hint=_near_refs(hub, name, revision)
        )
    if isinstance(error, kinds.RepositoryNotFoundError) or status == 404:
        return NotFound(f"{hub.endpoint} has no model {name!r}", hint=_near_names(hub, name))
    if isinstance(error, kinds.DisabledRepoError):
        hint = f"{hub.endpoint}/{name} may say why"
        return PermissionDenied(f"the hub has disabled {name}", hint=hint)
    if status == 429:
        return _limited(error, hub)
    if status in (401, 403):
        return PermissionDenied(
            f"{hub.endpoint} refuses {name or 'a search'} to you", hint=f"log in: {hub.login}"
        )
    if status >= 500:
        return Unavailable(f"{hub.endpoint} answers {status}", hint="try again later")
    said = str(error.server_message or "")[:200]
    return ProtocolError(f"{hub.endpoint} answers {status} {said}".rstrip())


def _limited(error: HTTP, hub: Hub) -> Overloaded:
    after = error.response.headers.get("Retry-After", "")
    wait = f"wait {after} s" if after.isdigit() else "wait some minutes"
    more = "" if hub.headers else f", or log in ({hub.login}): that raises the limit"
    return Overloaded(f"{hub.endpoint} limits how often you may ask", hint=wait + more)


def _gated(hub: Hub, name: str) -> PermissionDenied:
    page = f"{hub.endpoint}/{name}"
    if hub.headers:
        return PermissionDenied(
            f"{name} is gated, and your account has no access to it yet",
            hint=f"ask for it at {page}; some owners answer by hand, then try again",
        )
    return PermissionDenied(
        f"{name} is gated: its owner wants to know who uses it",
        hint=f"accept the terms at {page}, then log in: {hub.login}",
    )


def _near_names(hub: Hub, name: str) -> str:
    private = f"if it is private: {hub.login}"
    org, _, title = name.rpartition("/")
    try:
        found = hub.models(_NEAR, search=title) + (hub.models(_NEAR, author=org) if org else [])
    except MlosError:
        return private
    near = difflib.get_close_matches(name, [str(model.id) for model in found], n=1, cutoff=0.5)
    return f"did you mean {near[0]}? {private}" if near else private


def _near_refs(hub: Hub, name: str, revision: str) -> str:
    try:
        refs: Refs = hub.refs(name)
    except MlosError:
        return ""
    known = [*refs.tags, *refs.branches]
    near = difflib.get_close_matches(revision, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(known[:_SHOWN])}" if known else "give a whole commit"
