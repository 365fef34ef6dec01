# SPDX-License-Identifier: BUSL-1.1
"""Asking a Hugging Face hub, through `huggingface_hub`: what it says, and what went wrong.

Tokens follow huggingface_hub's own rules (`HF_TOKEN`, then what `hf auth login` kept) at its
own endpoint. Another hub, added as a registry, never sees that token: it gets the one that
`axon registry login` keeps for it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec

from axon_client import credentials
from axon_client.adapters.hf_version import Refs
from mlos_core.errors import (
    MlosError,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MOST_COMMITS: Final = 2000
_NEAR: Final = 20
T = TypeVar("T")


Hex256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Hex160 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")]


class RepoFile(msgspec.Struct, frozen=True):
    """One file of a repository. A large one has a SHA-256, a small one only git's name."""

    path: str
    size: int
    sha256: Hex256 = ""
    git_sha1: Hex160 = ""


class Repo(msgspec.Struct, frozen=True):
    """A repository at one commit. `gated` is true where its owner wants to be asked first."""

    name: str
    commit: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
    files: tuple[RepoFile, ...]
    gated: bool = False


class Hub:
    """One hub.

    Args:
        endpoint: its URL; the one that huggingface_hub is set to if left out.
        name: what it is called among the configured registries.
    """

    def __init__(self, endpoint: str = "", name: str = "") -> None:
        self._name = name
        self._module = _import()
        usual = os.environ.get("HF_ENDPOINT") or self._module.constants.ENDPOINT
        self.endpoint = (endpoint or usual).rstrip("/")
        headers = {}
        if credentials.origin(self.endpoint) == credentials.origin(usual):
            headers = self._module.utils.build_hf_headers()
        login = {name.lower(): value for name, value in headers.items()}.get("authorization")
        self.headers: dict[str, str] = (
            {"Authorization": login} if login else credentials.headers_for(self.endpoint)
        )
        """What a request to the hub says of who asks."""

    @property
    def _api(self) -> HfApi:
        api: HfApi = self._module.HfApi(
            endpoint=self.endpoint,
            token=False,
            headers={"Accept-Encoding": "identity", **self.headers},
            library_name="axon",
        )
        return api

    def repo(self, name: str, revision: str = "") -> Repo:
        """A repository at a revision: a branch, a tag, a commit, or its default branch.

        Raises:
            NotFound: there is no such repository or revision; names what is similar.
            PermissionDenied: one must log in, or ask its owner first; says where.
            Unavailable, Overloaded, ProtocolError: the hub does not answer as it should.
        """
        from axon_client.adapters.hf_session import STALL_S, explained

        info = self._ask(
            lambda api: api.model_info(
                name, revision=revision or None, files_metadata=True, timeout=STALL_S
            ),
            name,
            revision,
        )
        with explained(self.endpoint):
            files = tuple(map(_file, info.siblings or ()))
            made = Repo(name, info.sha or "", files, bool(info.gated))
            return msgspec.convert(msgspec.to_builtins(made), Repo)

    def check_access(self, name: str) -> None:
        """Raises PermissionDenied if a gated repository's owner has not agreed yet."""
        self._ask(lambda api: api.auth_check(name), name)

    def refs(self, name: str) -> Refs:
        """Branches and tags; none if the hub does not tell them."""
        from huggingface_hub.errors import HfHubHTTPError

        from axon_client.adapters.hf_session import explained

        try:
            found = self._ask(lambda api: api.list_repo_refs(name), name, translate=False)
        except HfHubHTTPError as error:
            if error.response.status_code == 429 or error.response.status_code >= 500:
                raise self._explain(error, name, "") from error
            return Refs()
        with explained(self.endpoint):
            branches = {ref.name: ref.target_commit for ref in found.branches}
            tags = {ref.name: ref.target_commit for ref in found.tags}
            head = branches.get("main") or next(iter(branches.values()), "")
            return msgspec.convert({"head": head, "branches": branches, "tags": tags}, Refs)

    def commit(self, name: str, beginning: str) -> str:
        """The commit that begins so; empty if none of the last ones does."""

        def find(api: HfApi) -> str:
            commits = api.list_repo_commits(name)
            ids = (
                commit.commit_id for _, commit in zip(range(_MOST_COMMITS), commits, strict=False)
            )
            return next((id for id in ids if id.startswith(beginning)), "")

        return str(self._ask(find, name))

    def url(self, name: str, commit: str, path: str) -> str:
        """Where a file's bytes are."""
        made: str = self._module.hf_hub_url(name, path, revision=commit, endpoint=self.endpoint)
        return made

    def models(self, limit: int, **filters: Any) -> list[Any]:
        """Models that fit, as huggingface_hub describes them; see `HfApi.list_models`."""
        return self._ask(lambda api: list(api.list_models(limit=limit, **filters)), "")

    def _ask(
        self,
        question: Callable[[HfApi], T],
        name: str,
        revision: str = "",
        *,
        translate: bool = True,
    ) -> T:
        from huggingface_hub.errors import HfHubHTTPError

        from axon_client.adapters.hf_session import bounded, explained

        with explained(self.endpoint), bounded(self.endpoint):
            try:
                return question(self._api)
            except HfHubHTTPError as error:
                if not translate:
                    raise
                raise self._explain(error, name, revision) from error

    # --- what went wrong ---------------------------------------------------------------

    def _explain(self, error: Any, name: str, revision: str) -> MlosError:
        from huggingface_hub import errors as kinds

        page, status = f"{self.endpoint}/{name}", error.response.status_code
        if isinstance(error, kinds.GatedRepoError):
            return self._gated(name, page)
        if isinstance(error, kinds.RevisionNotFoundError):
            return NotFound(
                f"{name} has no revision {revision!r}", hint=self._near_refs(name, revision)
            )
        if isinstance(error, kinds.RepositoryNotFoundError) or status == 404:
            return NotFound(f"{self.endpoint} has no model {name!r}", hint=self._near_names(name))
        if isinstance(error, kinds.DisabledRepoError):
            return PermissionDenied(f"the hub has disabled {name}", hint=f"{page} may say why")
        if status == 429:
            after = error.response.headers.get("Retry-After", "")
            wait = f"wait {after} s" if after.isdigit() else "wait some minutes"
            known = "" if self.headers else f", or log in ({self._login}): that raises the limit"
            return Overloaded(f"{self.endpoint} limits how often you may ask", hint=wait + known)
        if status in (401, 403):
            return PermissionDenied(
                f"{self.endpoint} refuses the token for {name or 'a search'}",
                hint=f"log in again: {self._login}",
            )
        if status >= 500:
            return Unavailable(f"{self.endpoint} answers {status}", hint="try again later")
        said = str(error.server_message or "")[:200]
        return ProtocolError(f"{self.endpoint} answers {status} {said}".rstrip())

    @property
    def _login(self) -> str:
        usual = os.environ.get("HF_ENDPOINT") or self._module.constants.ENDPOINT
        if credentials.origin(self.endpoint) == credentials.origin(usual):
            return "hf auth login, or set HF_TOKEN"
        return f"axon registry login {self._name}"

    def _gated(self, name: str, page: str) -> PermissionDenied:
        if self.headers:
            return PermissionDenied(
                f"{name} is gated, and your account has no access to it yet",
                hint=f"ask for it at {page}; some owners answer by hand, then try again",
            )
        return PermissionDenied(
            f"{name} is gated: its owner wants to know who uses it",
            hint=f"accept the terms at {page}, then log in: {self._login}",
        )

    def _near_names(self, name: str) -> str:
        private = f"if it is private: {self._login}"
        try:
            title = name.rpartition("/")[2]
            found = [str(model.id) for model in self.models(_NEAR, search=title)]
            org = name.partition("/")[0] if "/" in name else ""
            found += [str(m.id) for m in self.models(_NEAR, author=org)] if org else []
        except MlosError:
            return private
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
        return f"did you mean {near[0]}? {private}" if near else private

    def _near_refs(self, name: str, revision: str) -> str:
        try:
            refs = self.refs(name)
        except MlosError:
            return ""
        return suggest_ref(revision, refs)


def suggest_ref(revision: str, refs: Refs) -> str:
    """The ref that was probably meant, or those that there are."""
    known = [*refs.tags, *refs.branches]
    near = difflib.get_close_matches(revision, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(known[:20])}" if known else "give a whole commit"


def _import() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ImportError as error:
        raise Unsupported(
            f"hf/ needs the Python package huggingface_hub ({error})",
            hint="install it: pip install 'mlos-core[hf]'",
        ) from error
    return huggingface_hub


def _file(sibling: Any) -> RepoFile:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return RepoFile(
        sibling.rfilename,
        -1 if size is None else size,
        sibling.lfs.sha256 if sibling.lfs else "",
        "" if sibling.lfs else sibling.blob_id or "",
    )
