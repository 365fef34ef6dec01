# SPDX-License-Identifier: BUSL-1.1
"""Models on a Hugging Face hub: `axon install hf/<organisation>/<model>[@<revision>]`.

A revision is pinned to its commit when it is resolved, and every file to the digest that the
hub states for it at that commit: SHA-256 of large files, git's own hash of small ones. axon's
downloader fetches and checks them; huggingface_hub is asked for what there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from axon_client import formats, spec
from axon_client import manifest as manifests
from axon_client.adapters import hf_card, hf_version
from axon_client.adapters.base import Choice, Hit, RemoteFile, Resolved, Version
from axon_client.adapters.hf_choice import choose
from axon_client.adapters.hf_hub import Hub, Repo, RepoFile
from axon_client.adapters.hf_units import slug
from axon_client.adapters.hf_version import Refs, Wanted
from axon_client.describe import complete
from axon_client.introspect import read_onnx
from axon_client.manifest import Distribution, Manifest, Metadata, Package, Registry, Spec
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, PathSpec, UrlSpec
from axon_client.store import Stage
from mlos_core.errors import InvalidInput, NotFound, ProtocolError, Unsupported

REVISION = "hf.revision"
"""The annotation that holds the whole commit."""
REPOSITORY = "hf.repository"


class HfAdapter:
    """One hub.

    Args:
        endpoint: its URL; that of `HF_ENDPOINT`, or the public hub, if left out.
        namespace: what its packages are called in.
        choice: which of a repository's variants are wanted.
    """

    def __init__(
        self,
        endpoint: str = "",
        namespace: str = "hf",
        choice: Choice = Choice(),  # noqa: B008
    ) -> None:
        self._endpoint = endpoint
        self._namespace = namespace
        self._choice = choice

    def choosing(self, choice: Choice) -> HfAdapter:
        """The same hub, of whose repositories only `choice` is taken."""
        return HfAdapter(self._endpoint, self._namespace, choice)

    def _hub(self) -> Hub:
        return Hub(self._endpoint, self._namespace)

    def resolve(self, spec: PackageSpec | PathSpec | UrlSpec) -> Resolved:
        """Pin the revision to a commit, and choose the files."""
        wanted, hub = _package(spec), self._hub()
        refs = hub.refs(wanted.name)
        meant = _meant(wanted, refs)
        repo = _at_commit(hub, wanted, meant)
        choice, label = _with_label(self._choice, meant.label)
        version = hf_version.of_commit(repo.commit, refs, label)
        if hf_version.is_exact(wanted.version) and label == meant.label:
            version = wanted.version  # though the commit may have got a tag since
        return _resolved(hub, repo, wanted.at(version), choice)

    def resolve_at(self, spec: PackageSpec, revision: str) -> Resolved:
        """A version at the commit that it was once resolved to, wherever its tag is now."""
        hub = self._hub()
        meant = hf_version.wanted(spec.version, hub.refs(spec.name))
        known = bool(meant.commit or meant.beginning)
        label = meant.label if known else hf_version.label_of(spec.version)
        choice, _ = _with_label(self._choice, label)
        repo = _at_commit(hub, spec, hf_version.Wanted(revision))
        return _resolved(hub, repo, spec, choice)

    def fetch(
        self,
        spec: PackageSpec | PathSpec | UrlSpec,
        found: Resolved,
        stage: Stage,
        progress: Progress,
    ) -> Manifest:
        """Fetch the files and describe them."""
        assert found.package is not None
        hub = self._hub()
        for file in found.files:
            stage.obtain(_signed_in(file, hub), progress)
        _obtain_weights(hub, found, stage, progress)
        source = Distribution(Package(url=found.url), Registry(hub.endpoint, self._namespace))
        metadata = _metadata(hub, found, stage.files)
        manifest = Manifest("axon.mlos.io/v1", "Model", metadata, Spec(), source)
        return complete(
            manifest, stage.files, progress, stage.known, allow_pickle=stage.allow_pickle
        )

    def versions(self, spec: PackageSpec) -> list[Version]:
        """The newest commit of each branch, and every tagged one."""
        refs = self._hub().refs(spec.name)
        if not refs.branches and not refs.tags:
            resolved = self.resolve(spec.at("")).package
            return [Version(resolved.version, tags=("latest",))] if resolved else []
        label = _with_label(self._choice, "")[1]
        names: dict[str, list[str]] = {}
        for name, commit in [("latest", refs.head), *refs.branches.items(), *refs.tags.items()]:
            names.setdefault(hf_version.of_commit(commit, refs, label), []).append(name)
        return [Version(version, tags=tuple(tags)) for version, tags in names.items()]

    def narrowed(self, query: str, facets: Mapping[str, str]) -> str:
        """The hub's own terms for what hits must have."""
        terms = [f"{name}:{value}" for name, value in facets.items() if len(value.split()) == 1]
        return " ".join([query, *terms]).strip()

    def search(self, query: str, limit: int) -> list[Hit]:
        """Models on the hub. Words like `author:org` narrow it; see `hf_card.filters`."""
        found = self._hub().models(limit, **hf_card.filters(query))
        return [hf_card.hit(model, self._namespace) for model in found]


def _package(spec: PackageSpec | PathSpec | UrlSpec) -> PackageSpec:
    if not isinstance(spec, PackageSpec) or spec.name.count("/") > 1:
        raise InvalidInput(f"{spec} is no model on a hub", hint="write hf/organisation/model")
    return spec


def _meant(wanted: PackageSpec, refs: Refs) -> Wanted:
    if wanted.version and spec.kind_of(wanted.version) == "digest":
        raise Unsupported(
            f"{wanted.title} has commits, no digest of the whole",
            hint=f"write {wanted.title}@<commit>",
        )
    return hf_version.wanted(wanted.version, refs)


def _at_commit(hub: Hub, wanted: PackageSpec, meant: Wanted) -> Repo:
    """The repository at the commit that is meant."""
    commit = meant.commit
    if meant.beginning and not commit:
        commit = hub.commit(wanted.name, meant.beginning)
        if not commit:
            raise NotFound(
                f"{wanted.name} has no recent commit {meant.beginning}", hint="give all 40 digits"
            )
    repo = hub.repo(wanted.name, commit or meant.revision)
    if commit and repo.commit != commit:
        raise ProtocolError(f"{hub.endpoint} was asked for {commit} and answers {repo.commit}")
    return repo


def _resolved(hub: Hub, repo: Repo, package: PackageSpec, choice: Choice) -> Resolved:
    chosen = choose([file.path for file in repo.files], choice, repo.name)
    if repo.gated:
        hub.check_access(repo.name)
    there = {file.path: file for file in repo.files}
    return Resolved(
        package,
        url=f"{hub.endpoint}/{repo.name}/tree/{repo.commit}",
        revision=repo.commit,
        files=tuple(_remote_file(hub, repo, there[path]) for path in chosen.paths),
        notes=chosen.notes,
    )


def _with_label(choice: Choice, label: str) -> tuple[Choice, str]:
    """A variant that is chosen is part of the version; one in the version is chosen."""
    if not choice.include:
        if label.startswith("x-"):
            raise InvalidInput(
                f"the files of version +{label} were chosen by patterns",
                hint="give the same --include again, without that version",
            )
        return msgspec.structs.replace(choice, include=(label,) if label else ()), label
    named = slug(choice.include[0])
    if len(choice.include) == 1 and len(named) <= 64 and not set("*?[") & set(choice.include[0]):
        return choice, named
    digest = hashlib.sha256("\n".join(sorted(choice.include)).encode()).hexdigest()
    return choice, f"x-{digest[:8]}"


def _remote_file(hub: Hub, repo: Repo, file: RepoFile) -> RemoteFile:
    if not file.sha256 and not file.git_sha1:
        raise ProtocolError(f"{hub.endpoint} states no digest for {file.path} of {repo.name}")
    url = hub.url(repo.name, repo.commit, file.path)
    return RemoteFile(file.path, (url,), file.size, file.sha256, file.git_sha1)


def _signed_in(file: RemoteFile, hub: Hub) -> RemoteFile:
    """With the user's token, which is never part of what is resolved: that may be written."""
    return msgspec.structs.replace(file, headers=tuple(hub.headers.items()))


def _obtain_weights(hub: Hub, found: Resolved, stage: Stage, progress: Progress) -> None:
    """Files that hold weights of an ONNX file, whatever they are called."""
    missing = [
        beside
        for file in found.files
        if formats.format_of(file.path) == "onnx"
        for beside in _external(stage.files, file.path)
        if beside not in stage.known
    ]
    if not missing:
        return
    assert found.package is not None
    repo = hub.repo(found.package.name, found.revision)
    there = {file.path: file for file in repo.files}
    for path in dict.fromkeys(missing):
        if path in there:
            stage.obtain(_signed_in(_remote_file(hub, repo, there[path]), hub), progress)


def _external(folder: Path, model: str) -> list[str]:
    parent = model.rpartition("/")[0]
    found = read_onnx(folder / model).external
    return [f"{parent}/{location}" if parent else location for location in found]


def _metadata(hub: Hub, found: Resolved, folder: Path) -> Metadata:
    assert found.package is not None
    name = found.package.name
    card = hf_card.read(folder / "README.md")
    return manifests.new(
        Metadata(
            name=name,
            namespace=found.package.namespace,
            version=found.package.version,
            description=card.description,
            authors=[manifests.Author(name.partition("/")[0])] if "/" in name else [],
            license=card.license,
            homepage=f"{hub.endpoint}/{name}",
            tags=card.tags,
            annotations={REPOSITORY: name, REVISION: found.revision},
        ),
        Spec(),
    ).metadata
