# SPDX-License-Identifier: BUSL-1.1
"""Signing a manifest, and what a signature is worth to somebody.

A manifest lists every file with its digest and says whose package it is in which version, so
a signature of its exact bytes covers the whole package and fits no other. What is signed is
the line `axon manifest v1 sha256:<hex>`: a signature made for anything else is none here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from axon_client.config import Policy
from axon_client.errors import IntegrityError
from axon_client.trust import ring
from axon_client.trust.encoding import key_bytes, signature_bytes
from axon_client.trust.keys import SigningKey
from axon_client.trust.ring import Trusted
from mlos_core.errors import InvalidInput, MlosError, PermissionDenied

MOST_SIGNATURES: Final = 64
_FIELDS: Final = {"key", "signature", "manifest_sha256"}

State = Literal[
    "off", "trusted", "altered", "wrong-namespace", "unknown-key", "malformed", "unsigned"
]
_WORST_FIRST: Final[tuple[State, ...]] = (
    "altered", "wrong-namespace", "unknown-key", "malformed"
)  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """What the signatures of a package are worth under a policy.

    Attributes:
        state: `trusted`; `off`, if nobody wanted to know; or what is wrong.
        message: one sentence; empty if all is well.
        hint: what the user can do about it.
        key: the public key that it is about, or empty.
        name: whose key that is.
    """

    state: State
    policy: Policy
    message: str = ""
    hint: str = ""
    key: str = ""
    name: str = ""

    @property
    def refused(self) -> bool:
        """Whether the package must not be installed.

        A policy of `warn` lets pass what nobody vouches for, but nothing that was altered.
        """
        if self.state in ("off", "trusted"):
            return False
        return self.policy == "require" or self.state == "altered"

    @property
    def warning(self) -> str:
        """What to tell the user about a package that is installed all the same."""
        return "" if self.refused else self.message

    def error(self) -> MlosError:
        """The error that refuses the package."""
        kind = IntegrityError if self.state == "altered" else PermissionDenied
        return kind(self.message, hint=self.hint)


def sign(key: SigningKey, manifest: bytes) -> dict[str, str]:
    """The signature of a manifest's exact bytes, as registries keep it."""
    import base64

    digest = hashlib.sha256(manifest).hexdigest()
    signature = base64.b64encode(key.sign(_message(digest))).decode()
    return {"key": key.public, "signature": signature, "manifest_sha256": digest}


def _message(digest: str) -> bytes:
    return f"axon manifest v1 sha256:{digest}\n".encode()


def check(
    manifest: bytes,
    signatures: Sequence[Mapping[str, Any]],
    namespace: str,
    policy: Policy,
    *,
    registry: str = "",
    trusted: Sequence[Trusted] | None = None,
    home: Path | None = None,
) -> Verdict:
    """Whether somebody who may sign for `namespace` has signed these bytes.

    One good signature is enough, whatever others there are.

    Args:
        manifest: the exact bytes that were published.
        registry: the URL of the registry that the package came from.
        trusted: whom to trust, instead of those that the store in `home` names.
    """
    if policy == "off":
        return Verdict("off", policy)
    known = ring.load(home) if trusted is None else trusted
    judge = _Judge(manifest, namespace, policy, registry.rstrip("/"), known)
    found = [judge.verdict(signature) for signature in signatures[:MOST_SIGNATURES]]
    for state in ("trusted", *_WORST_FIRST):
        for verdict in found:
            if verdict.state == state:
                return verdict
    hint = "ask its publisher to sign it: axon publish --sign"
    return Verdict("unsigned", policy, f"the package in {namespace!r} is not signed", hint)


class _Judge(msgspec.Struct, frozen=True):
    """Everything that a signature of one package is judged by."""

    manifest: bytes
    namespace: str
    policy: Policy
    registry: str
    trusted: Sequence[Trusted]

    def verdict(self, signature: Mapping[str, Any]) -> Verdict:
        try:
            key, raw, digest = _parse(signature)
        except InvalidInput as error:
            message = f"a signature is malformed: {error.message}"
            return Verdict("malformed", self.policy, message, "do not trust it")
        entry = next((entry for entry in self.trusted if entry.key == key), None)
        if entry is None:
            return self._unknown(key)
        if digest != hashlib.sha256(self.manifest).hexdigest() or not _fits(key, raw, digest):
            return self._altered(entry)
        if not entry.covers(self.namespace, self.registry):
            return self._elsewhere(entry)
        return Verdict("trusted", self.policy, key=key, name=entry.name)

    def _unknown(self, key: str) -> Verdict:
        message = f"signed by {key}, which is not trusted"
        known = f"axon trust add {key} --namespace {self.namespace}"
        hint = f"if you know whose key that is: {known}"
        return Verdict("unknown-key", self.policy, message, hint, key)

    def _altered(self, entry: Trusted) -> Verdict:
        message = f"the signature of {entry.name or entry.key} is not one of this manifest"
        hint = "do not use it: the manifest or the signature was altered; tell the publisher"
        return Verdict("altered", self.policy, message, hint, entry.key, entry.name)

    def _elsewhere(self, entry: Trusted) -> Verdict:
        allowed = ", ".join([*entry.namespaces, *entry.registries])
        whose = entry.name or entry.key
        message = f"{whose} may not sign for {self.namespace!r}, only for {allowed}"
        hint = f"if they may: axon trust add {entry.key} --namespace {self.namespace}"
        return Verdict("wrong-namespace", self.policy, message, hint, entry.key, entry.name)


def _parse(signature: Mapping[str, Any]) -> tuple[str, bytes, str]:
    """Key, signature and digest, each in its one spelling."""
    if not isinstance(signature, Mapping) or set(signature) != _FIELDS:
        raise InvalidInput(f"it has other fields than {', '.join(sorted(_FIELDS))}")
    if not all(isinstance(value, str) for value in signature.values()):
        raise InvalidInput("a field is no text")
    digest = signature["manifest_sha256"]
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InvalidInput("manifest_sha256 is not 64 lower-case hex digits")
    key_bytes(signature["key"])
    return signature["key"], signature_bytes(signature["signature"]), digest


def _fits(key: str, signature: bytes, digest: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key_bytes(key)).verify(signature, _message(digest))
    except InvalidSignature:
        return False
    return True
