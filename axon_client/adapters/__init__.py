# SPDX-License-Identifier: BUSL-1.1
"""Where packages come from: one adapter for each kind of source."""

from __future__ import annotations

from axon_client.adapters.base import Adapter, Resolved
from axon_client.adapters.local import LocalAdapter
from axon_client.adapters.pypi import PypiAdapter
from axon_client.spec import PackageSpec, PathSpec
from mlos_core.errors import NotFound

ADAPTERS: dict[str, Adapter] = {"pypi": PypiAdapter()}
"""By namespace."""

LOCAL: Adapter = LocalAdapter()


def adapter_for(spec: PackageSpec | PathSpec) -> Adapter:
    """The adapter that knows where `spec` comes from.

    Raises:
        NotFound: no adapter serves its namespace.
    """
    if isinstance(spec, PathSpec):
        return LOCAL
    if spec.namespace not in ADAPTERS:
        raise NotFound(
            f"no source for namespace {spec.namespace!r}",
            hint=f"known: {', '.join(sorted(ADAPTERS))}; a path starts with ./ or /",
        )
    return ADAPTERS[spec.namespace]


__all__ = ["ADAPTERS", "Adapter", "LOCAL", "Resolved", "adapter_for"]
