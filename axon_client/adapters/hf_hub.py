# SPDX-License-Identifier: BUSL-1.1
"""Asking a Hugging Face hub, through `huggingface_hub`: what it says, and what went wrong.

Tokens follow huggingface_hub's own rules (`HF_TOKEN`, then what `hf auth login` kept) at its
own endpoint. Another hub, added as a registry, never sees that token: it gets the one that
`axon registry login` keeps for it.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec

from axon_client import config, credentials
from axon_client.adapters.hf_version import Refs
from mlos_core.errors import ConfigError, Unavailable, Unsupported

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MOST_COMMITS: Final = 2000
PAUSES_S: Final = (0.5, 1.0)
"""Before a question that failed, but may not the next time, is asked again."""
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
        self._usual = os.environ.get("HF_ENDPOINT") or self._module.constants.ENDPOINT
        self.endpoint = (endpoint or self._usual).rstrip("/")
        headers = {}
        if credentials.origin(self.endpoint) == credentials.origin(self._usual):
            headers = self._own_headers()
        login = {name.lower(): value for name, value in headers.items()}.get("authorization")
        self.headers: dict[str, str] = (
            {"Authorization": login} if login else credentials.headers_for(self.endpoint)
        )
        """What a request to the hub says of who asks."""

    def _own_headers(self) -> dict[str, str]:
        from axon_client.adapters.hf_session import explained

        with explained(self.endpoint):
            found: dict[str, str] = self._module.utils.build_hf_headers()
            return found

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
        from axon_client.adapters import hf_faults
        from axon_client.adapters.hf_session import explained

        try:
            found = self._raw(lambda api: api.list_repo_refs(name))
        except hf_faults.HTTP as error:
            if error.response.status_code == 429 or hf_faults.may_pass(error):
                raise hf_faults.explain(error, self, name, "") from error
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

    def _ask(self, question: Callable[[HfApi], T], name: str, revision: str = "") -> T:
        from axon_client.adapters import hf_faults

        try:
            return self._raw(question)
        except hf_faults.HTTP as error:
            raise hf_faults.explain(error, self, name, revision) from error

    def _raw(self, question: Callable[[HfApi], T]) -> T:
        """Ask, again if it may help; what the hub refuses is huggingface_hub's error."""
        from axon_client.adapters import hf_faults, hf_session

        if config.load().offline:
            raise ConfigError(
                f"axon is offline, so {self.endpoint} is not asked",
                hint="axon config unset offline, or unset AXON_OFFLINE",
            )
        for pause in (*PAUSES_S, None):
            try:
                with hf_session.explained(self.endpoint), hf_session.bounded(self.endpoint):
                    return question(self._api)
            except (Unavailable, hf_faults.HTTP) as error:
                if pause is None or not hf_faults.may_pass(error):
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    @property
    def login(self) -> str:
        """How a user logs in there."""
        if credentials.origin(self.endpoint) == credentials.origin(self._usual):
            return "hf auth login, or set HF_TOKEN"
        return f"axon registry login {self._name}"


def _import() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils

        importlib.import_module("axon_client.adapters.hf_session")  # of a version that fits
    except ImportError as error:
        raise Unsupported(
            f"hf/ needs the Python package huggingface_hub, 2.0 or later ({error})",
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
