# SPDX-License-Identifier: BUSL-1.1
"""Fetching the demo's models into a store of their own."""

from __future__ import annotations

from pathlib import Path

from mlos_core.cli.packages import bar
from mlos_core.errors import Unavailable


def install(package: str, folder: Path) -> Path:
    """The main model of a package, in a store in `folder`.

    Raises:
        MlosError: it cannot be had.
    """
    try:
        import axon_client
    except ImportError as err:
        raise Unavailable(f"axon does not import: {err}", hint="reinstall mlos-core") from err
    with bar() as report:
        return axon_client.install(package, home=folder / "axon", progress=report).model_file()
