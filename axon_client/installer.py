# SPDX-License-Identifier: BUSL-1.1
"""Installing packages: what other programs call, and the commands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from axon_client.installation import Installation, Installed, InstallOptions
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec, Spec, parse
from axon_client.store import Store

if TYPE_CHECKING:
    from axon_client.adapters.base import Adapter


def install(
    spec: str | Spec,
    home: Path | str | None = None,
    progress: Progress | None = None,
    *,
    replace: bool = False,
    rename: PackageSpec | None = None,
    adapter: Adapter | None = None,
    options: InstallOptions = InstallOptions(),  # noqa: B008
) -> InstalledModel:
    """Install a package, with what it depends on, and return where it is.

    A package that is installed in a version that fits is returned without a question to its
    source; `@latest` asks.

    Args:
        spec: `namespace/name[@selector]`, the path of a folder or model file, or a URL.
        home: the store; `$AXON_HOME` or `~/.axon` if left out.
        progress: told how far downloading, copying and hashing are.
        replace, rename: see `InstallOptions`, whose values they override.
        adapter: the source, if not the one that the spec's namespace names.

    Raises:
        MlosError: one of its subclasses; the package is not installed then.
    """
    wanted = parse(spec) if isinstance(spec, str) else spec
    options = msgspec.structs.replace(
        options, replace=replace or options.replace, rename=rename or options.rename
    )
    done = Installation(Store(home), options, progress or silent, adapter).install([wanted])
    return next(one for one in done if one.wanted).model


def install_all(
    specs: Iterable[Spec],
    home: Path | str | None = None,
    progress: Progress | None = None,
    options: InstallOptions = InstallOptions(),  # noqa: B008
) -> list[Installed]:
    """Install several packages that agree on their dependencies; those come first.

    Raises:
        InvalidInput: they exclude each other, or one name is given to several.
        MlosError: see `install`; packages that were complete before stay installed.
    """
    return Installation(Store(home), options, progress or silent).install(list(specs))


__all__ = ["InstallOptions", "Installed", "install", "install_all"]
