# SPDX-License-Identifier: BUSL-1.1
"""Who vouches for a package: ed25519 keys, signatures of manifests, and whom a user trusts.

trust.generate(name), trust.load_key(name)      one's own keys
trust.sign(key, manifest)                       one signature, as registries keep it
trust.check(manifest, signatures, namespace, policy) -> Verdict
trust.add(Trusted(key, ...)), remove, trusted   whom one trusts, and for what
trust.keep, trust.check_kept                    signatures beside an installed package
"""

from __future__ import annotations

from axon_client.trust.kept import FILE_NAME, check_installed, check_kept, check_same
from axon_client.trust.kept import encode as keep
from axon_client.trust.keys import SigningKey, generate, read_public
from axon_client.trust.keys import load as load_key
from axon_client.trust.ring import Trusted, add, remove
from axon_client.trust.ring import load as trusted
from axon_client.trust.signatures import Verdict, check, sign

__all__ = [
    "FILE_NAME",
    "SigningKey",
    "Trusted",
    "Verdict",
    "add",
    "check",
    "check_installed",
    "check_kept",
    "check_same",
    "generate",
    "keep",
    "load_key",
    "read_public",
    "remove",
    "sign",
    "trusted",
]
