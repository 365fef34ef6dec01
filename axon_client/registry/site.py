# SPDX-License-Identifier: BUSL-1.1
"""One registry: its folder, opened, and what it says of itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request

from axon_client.registry.access import Access, Identity
from axon_client.registry.blobs import Blobs
from axon_client.registry.database import FILE_NAME, Database
from axon_client.registry.limits import Limits
from axon_client.registry.tokens import Tokens

API = "1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a registry presents itself. `private`: reading needs a token, too."""

    name: str = "axon"
    private: bool = False
    limits: Limits = Limits()


class Site:
    """The registry in `folder`, which is made if it is missing.

    Raises:
        ConfigError: the folder is used for something else.
    """

    def __init__(self, folder: Path, settings: Settings = Settings()) -> None:  # noqa: B008
        self.folder = folder.absolute()
        self.settings = settings
        self.limits = settings.limits
        self.database = Database(self.folder / FILE_NAME)
        self.blobs = Blobs(self.folder, self.database, settings.limits)
        self.tokens = Tokens(self.database)
        self.access = Access(self.tokens, settings.private)
        self.speaks_oci = importlib.util.find_spec("axon_client.registry.oci") is not None

    def may(self, request: Request, scope: str) -> Identity:
        """Who asks, if they may; see `Access.require`."""
        return self.access.require(request.headers.get("authorization"), scope)

    @property
    def forever(self) -> str:
        """How long what never changes may be kept, and by whom."""
        who = "private" if self.settings.private else "public"
        return f"{who}, max-age=31536000, immutable"

    def about(self, static: bool = False) -> dict[str, Any]:
        """What `registry.json` says."""
        return {
            "name": self.settings.name,
            "version": API,
            "static": static,
            "namespaces": self.database.namespaces(),
            "oci": self.speaks_oci and not static,
        }

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()
