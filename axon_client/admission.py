# SPDX-License-Identifier: BUSL-1.1
"""What a package has to pass before it is installed, whoever it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from axon_client.adapters.base import Resolved
from axon_client.config import Config
from axon_client.errors import IntegrityError
from axon_client.formats import format_of, is_pickle
from axon_client.manifest import ExecutionFile, Manifest
from axon_client.spec import PackageSpec
from axon_client.verify import SIGNATURES
from mlos_core.errors import InvalidInput, PermissionDenied

FORMATS: Final = {
    "onnx": {"onnx"},
    "gguf": {"gguf"},
    "pytorch": {"safetensors", "torchscript", "pt2", "checkpoint"},
}
"""What `--format` asks for. `native` is what the model's own framework saves: all but onnx."""
_ALWAYS: Final = {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"}
_SOMETIMES: Final = {".bin", ".ckpt", ".th"}
_PROTOCOLS: Final = {bytes([0x80, version]) for version in range(2, 6)}


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


def check_pickles(manifest: Manifest, folder: Path, allowed: bool) -> Manifest:
    """Let pickles pass only if the user wants them, and then mark the package.

    Raises:
        PermissionDenied: there are some, and nobody allowed it.
    """
    format = manifest.spec.format
    found = [file.path for file in format.files if holds_pickle(folder / file.path)]
    if not found and not format.pickled:
        return manifest
    if not allowed:
        names = ", ".join(found[:3]) or "its models"
        raise PermissionDenied(
            f"{manifest.title} holds pickles ({names}), which run code when they are opened",
            hint="choose another format; if you trust whoever made it: --allow-pickle",
        )
    spec = msgspec.structs.replace(
        manifest.spec, format=msgspec.structs.replace(format, pickled=True)
    )
    return msgspec.structs.replace(manifest, spec=spec)


def holds_pickle(path: Path) -> bool:
    """Whether opening a file the way its name suggests would run a pickle's code.

    Content decides where it can: a `.bin` may as well be plain weights.
    """
    suffix = path.suffix.lower()
    if suffix in _ALWAYS:
        return True
    if format_of(path.name) == "torchscript":
        return is_pickle(path)
    if suffix not in _SOMETIMES:
        return False
    with path.open("rb") as file:
        head = file.read(2)
    return head in _PROTOCOLS or (head == b"PK" and is_pickle(path))


def check_trust(found: Resolved, namespace: str, settings: Config, home: Path) -> tuple[str, bytes]:
    """Hold a package's signatures against the policy of its registry.

    Returns:
        A warning, empty if there is none, and what to keep to check it again later.

    Raises:
        PermissionDenied: nobody trusted vouches for it, and the policy requires that.
        IntegrityError: it is not what was signed.
    """
    from axon_client.adapters import registry_of

    name = registry_of(namespace, settings)
    registry = settings.registries.get(name)
    if registry is None or registry.policy == "off":
        return "", b""
    from axon_client import trust

    verdict = trust.check(
        found.manifest,
        found.signatures,
        namespace,
        registry.policy,
        registry=registry.url,
        home=home,
    )
    if verdict.refused:
        raise verdict.error()
    kept = trust.keep(found.manifest, found.signatures, registry.url) if found.manifest else b""
    return verdict.warning, kept
