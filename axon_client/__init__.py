# SPDX-License-Identifier: BUSL-1.1
"""axon: the model package manager.

model = axon_client.install("pypi/magika@1.0.3")
model.path, model.manifest, model.model_file()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axon_client.installer import install
    from axon_client.models import InstalledModel
    from axon_client.store import Store

__all__ = ["InstalledModel", "Store", "install"]
_HOMES = {"InstalledModel": "models", "Store": "store", "install": "installer"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: every axon command imports this package, few need it all."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
