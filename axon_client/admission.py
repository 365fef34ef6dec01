# SPDX-License-Identifier: BUSL-1.1
"""What a package has to pass before it is installed, whoever it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from axon_client import safety
from axon_client.adapters.base import Resolved
from axon_client.config import Config, Registry
from axon_client.errors import IntegrityError
from axon_client.formats import format_of
from axon_client.manifest import ExecutionFile, Manifest
from axon_client.spec import PackageSpec
from axon_client.verify import SIGNATURES
from mlos_core.errors import InvalidInput, PermissionDenied

FORMATS: Final = {
    "onnx": {"onnx"},
    "gguf": {"gguf"},
    "pytorch": {"safetensors", "torchscript", "pt2", "pickle"},
}
"""What `--format` asks for. `native` is what the model's own framework saves: all but onnx."""


_ANYBODY_S: Final = frozenset({"local", "https"})
"""Namespaces in which a name promises nothing."""


def check_kept(kept: bytes, manifest: Manifest) -> None:
    """See that what came is what the signatures are of.

    Raises:
        IntegrityError: it is not.
    """
    if not kept:
        return
    from axon_client import trust

    trust.check_same(kept, manifest)


def extras(manifest: Manifest, kept: bytes) -> dict[str, bytes]:
    """What lies beside the installed manifest, unless the package has a file of that name."""
    listed = {file.path for file in manifest.spec.format.files}
    return {SIGNATURES: kept} if kept and SIGNATURES not in listed else {}


def check_identity(manifest: Manifest, package: PackageSpec | None) -> None:
    """See that a source gave the package that was asked for.

    Raises:
        IntegrityError: it is another one.
    """
    if package and manifest.title != str(package):
        raise IntegrityError(f"asked for {package}, the source gave {manifest.title}")


def check_format(models: Sequence[ExecutionFile], wanted: str, package: str) -> None:
    """See that a package has a model in the format that the user asked for.

    Raises:
        InvalidInput: it has none; says which formats there are.
    """
    there = {model.format for model in models}
    if wanted == "auto" or there & (FORMATS.get(wanted) or there - {"onnx"}):
        return
    known = ", ".join(sorted(there)) or "no model in a known format"
    raise InvalidInput(f"{package} has no model in format {wanted}", hint=f"it has: {known}")


def check_offer(found: Resolved, wanted: str) -> None:
    """As `check_format`, before anything is fetched, of a source that lists its files."""
    models = [ExecutionFile(file.path, format_of(file.path)) for file in found.files]
    models = [model for model in models if model.format]
    if models:
        check_format(models, wanted, str(found.package))


def check_safe(manifest: Manifest, folder: Path, allowed: bool) -> Manifest:
    """Let files that may run code pass only if the user wants them, and mark the package then.

    What the manifest says of itself is not enough: the files are looked at.

    Raises:
        InvalidInput: there are some, and nobody allowed it.
    """
    format = manifest.spec.format
    unsafe = safety.unsafe_files(folder, [file.path for file in format.files])
    if format.pickled and not unsafe:
        unsafe = {file.path: "marked as a pickle" for file in format.execution_files}
    if not unsafe:
        return manifest
    if not allowed:
        safety.refuse(manifest.title, unsafe)
    marked = msgspec.structs.replace(format, pickled=True)
    return msgspec.structs.replace(
        manifest, spec=msgspec.structs.replace(manifest.spec, format=marked)
    )


def check_claim(manifest: Manifest, settings: Config) -> str:
    """Hold what a folder, file or URL calls itself against the policy of that name's registry.

    Nobody has signed it: without this, a name that needs a signature could be had by saying it.

    Returns:
        A warning, empty if there is none.

    Raises:
        PermissionDenied: the policy requires a signature.
    """
    about = manifest.metadata
    registry = _registry(about.namespace, settings)
    if about.namespace not in _ANYBODY_S and _has_own_source(about.namespace):
        return f"{manifest.title} did not come from {about.namespace}/, and may be anything"
    if registry is None or registry.policy == "off":
        return ""
    message = f"{manifest.title} did not come from the registry of {about.namespace!r}: unsigned"
    if registry.policy == "warn":
        return message
    raise PermissionDenied(
        message, hint=f"give it a name of your own: --as local/{about.name}@{about.version}"
    )


def _registry(namespace: str, settings: Config) -> Registry | None:
    """The registry that serves a namespace; None if something else does."""
    from axon_client.adapters import registry_of

    # A source of its own is no registry, though a default one serves what nothing else does.
    own = _has_own_source(namespace)
    return None if own else settings.registries.get(registry_of(namespace, settings))


def _has_own_source(namespace: str) -> bool:
    from axon_client.adapters import BUILT_IN, outside_sources

    return namespace in BUILT_IN or namespace in outside_sources()


def check_trust(found: Resolved, namespace: str, settings: Config, home: Path) -> tuple[str, bytes]:
    """Hold a package's signatures against the policy of its registry.

    Returns:
        A warning, empty if there is none, and what to keep to check it again later.

    Raises:
        PermissionDenied: nobody trusted vouches for it, and the policy requires that.
        IntegrityError: it is not what was signed.
    """
    registry = _registry(namespace, settings)
    if not found.signatures and (registry is None or registry.policy == "off"):
        return "", b""
    from axon_client import trust

    url = registry.url if registry else ""
    kept = trust.keep(found.manifest, found.signatures, url) if found.manifest else b""
    if registry is None or registry.policy == "off":
        return "", kept  # nobody asks now; somebody may later
    verdict = trust.check(
        found.manifest,
        found.signatures,
        namespace,
        registry.policy,
        registry=url,
        home=home,
    )
    if verdict.refused:
        raise verdict.error()
    return verdict.warning, kept
