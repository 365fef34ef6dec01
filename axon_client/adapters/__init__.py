# SPDX-License-Identifier: BUSL-1.1
"""Where packages come from: one adapter for each kind of source.

A namespace has one source. It is looked for among the built-in ones, the entry points
`axon.sources`, the registries of kind hf and oci, whose names are namespaces, and the axon
registries: the one that claims the namespace, else the default one. Nothing is asked at a
second place, so a package of a private namespace cannot come from a public registry.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any, Final

from axon_client import config
from axon_client.adapters.base import Adapter, Resolved
from axon_client.config import Config
from axon_client.spec import PackageSpec, PathSpec, UrlSpec
from mlos_core.errors import NotFound, PluginBroken

GROUP: Final = "axon.sources"
BUILT_IN: Final = {
    "pypi": "axon_client.adapters.pypi:PypiAdapter",
    "hf": "axon_client.adapters.hf:HfAdapter",
    "oci": "axon_client.adapters.oci:OciAdapter",
    "local": "axon_client.adapters.local:LocalAdapter",
    "https": "axon_client.adapters.https:HttpsAdapter",
}
"""By namespace: where its class is. It is imported when the namespace is asked for."""


def adapter_for(spec: PackageSpec | PathSpec | UrlSpec, home: Path | None = None) -> Adapter:
    """The adapter that knows where `spec` comes from, by the settings in `home`.

    Raises:
        NotFound: nothing serves its namespace.
        PluginBroken: what serves it does not load.
        ConfigError: the settings are wrong.
    """
    if isinstance(spec, PathSpec):
        return _built_in("local")
    if isinstance(spec, UrlSpec):
        return _built_in("https")
    return source(spec.namespace, home)


def source(namespace: str, home: Path | None = None) -> Adapter:
    """The adapter of one namespace. Raises as `adapter_for` does."""
    if namespace in BUILT_IN:
        return _built_in(namespace)
    outside = outside_sources()
    if namespace in outside:
        return _load(outside[namespace])
    settings = config.load(home)
    name = registry_of(namespace, settings)
    if not name:
        known = [*BUILT_IN, *outside, *_claimed(settings)]
        raise NotFound(
            f"no source for namespace {namespace!r}",
            hint=f"{config.suggest(namespace, known)}; a path starts with ./ or /; "
            f"its registry is added with: axon registry add NAME URL --namespace {namespace}",
        )
    return registry_adapter(name, settings, home)


def registry_of(namespace: str, settings: Config) -> str:
    """The configured registry that serves a namespace; empty if none does."""
    named = settings.registries.get(namespace)
    if named and named.kind != "axon":
        return namespace
    for name, registry in settings.registries.items():
        if namespace in registry.namespaces:
            return name
    return settings.default_registry


def _claimed(settings: Config) -> list[str]:
    named = [name for name, registry in settings.registries.items() if registry.kind != "axon"]
    return [*named, *(n for registry in settings.registries.values() for n in registry.namespaces)]


def registry_adapter(name: str, settings: Config, home: Path | None = None) -> Adapter:
    """The adapter of a configured registry.

    Raises:
        NotFound: there is none of that name.
    """
    if name not in settings.registries:
        hint = config.suggest(name, settings.registries) or "axon registry add NAME URL"
        raise NotFound(f"there is no registry {name!r}", hint=hint)
    registry = settings.registries[name]
    if registry.kind == "hf":
        from axon_client.adapters.hf import HfAdapter

        return HfAdapter(endpoint=registry.url, namespace=name)
    if registry.kind == "oci":
        from axon_client.adapters.oci import OciAdapter

        return OciAdapter(registry.url, namespace=name)
    from axon_client.adapters.registry import RegistryAdapter

    return RegistryAdapter(registry.url, home)


def outside_sources() -> dict[str, importlib.metadata.EntryPoint]:
    """By namespace: what other distributions add. A built-in source cannot be replaced."""
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in found if point.name not in BUILT_IN}


def _built_in(name: str) -> Adapter:
    module, _, attribute = BUILT_IN[name].partition(":")
    made: Adapter = getattr(importlib.import_module(module), attribute)()
    return made


def _load(point: importlib.metadata.EntryPoint) -> Adapter:
    whose = f"source {point.name!r} of {point.dist.name if point.dist else point.value}"
    try:
        made: Any = point.load()()
    except Exception as error:
        raise PluginBroken(
            f"{whose} does not load: {type(error).__name__}: {error}",
            hint="update or uninstall that distribution",
        ) from error
    lacking = [name for name in ("resolve", "fetch") if not callable(getattr(made, name, None))]
    if lacking:
        raise PluginBroken(f"{whose} has no {' and no '.join(lacking)}")
    adapter: Adapter = made
    return adapter


__all__ = [
    "Adapter", "BUILT_IN", "Resolved", "adapter_for", "outside_sources", "registry_adapter",
    "registry_of", "source",
]  # fmt: skip
