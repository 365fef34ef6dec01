# SPDX-License-Identifier: BUSL-1.1
"""The installed model that a user means, installing it first where that is wanted."""

from __future__ import annotations

from pathlib import Path

from axon_client.catalog import find_newest
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec, Spec, parse
from axon_client.store import Store
from mlos_core.errors import InvalidInput, MlosError, NotFound


def obtain(
    text: str,
    *,
    install: bool,
    progress: Progress = silent,
    home: Path | str | None = None,
    allow_pickle: bool = False,
) -> InstalledModel:
    """A package by name, `namespace/name@selector`, or path.

    Args:
        install: fetch what is missing; otherwise only what is installed will do.
        allow_pickle: also what runs code when it is opened.

    Raises:
        NotFound: it is not installed, or its source has no such package.
        MlosError: it could not be installed.
    """
    try:
        return find_newest(text, Store(home).installed())
    except (NotFound, InvalidInput) as error:
        spec = _spec(text)
        if spec is None or (isinstance(error, InvalidInput) and _is_bare(spec)):
            raise  # several packages fit, and nothing says which
        absent = error
    from axon_client.installer import InstallOptions
    from axon_client.installer import install as install_package

    if install:
        options = InstallOptions(allow_pickle=allow_pickle)
        return install_package(text, home, progress, options=options)
    if not isinstance(spec, PackageSpec):
        raise NotFound(f"{text} is not installed", hint=f"axon install {text}")
    try:
        return install_package(text, home, progress, options=InstallOptions(offline=True))
    except MlosError:
        hint = f"install it with it: --install, or: axon install {text}"
        raise NotFound(f"{text} is not installed", hint=absent.hint or hint) from absent


def _spec(text: str) -> Spec | None:
    """What can be installed; None for a name that needs a namespace."""
    try:
        return parse(text)
    except InvalidInput:
        return None


def _is_bare(spec: Spec) -> bool:
    return isinstance(spec, PackageSpec) and not spec.version
