# SPDX-License-Identifier: BUSL-1.1
"""Projects: the models that a folder's work needs, in `axon.toml` and `axon.lock`.

    [project]
    name = "reader"
    namespace = "acme"
    version = "0.1.0"

    [models]
    "pypi/magika" = "^1.0"
    "acme/pipeline" = { version = "~2.1" }
    "local/digits" = { path = "models/digits" }

    [registries.hub]
    url = "https://models.example.org"
    namespaces = ["acme"]

`axon.toml` says what is wanted, `axon.lock` which bytes that is: for every package, also
those that others need, the exact version and the digest of each file.
"""

from __future__ import annotations

from axon_client.project.locked import LOCK_NAME, Lock, Locked
from axon_client.project.locked import load as load_lock
from axon_client.project.settings import FILE_NAME, Project, Wish, find, load

__all__ = [
    "FILE_NAME",
    "LOCK_NAME",
    "Lock",
    "Locked",
    "Project",
    "Wish",
    "find",
    "load",
    "load_lock",
]
