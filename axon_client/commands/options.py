# SPDX-License-Identifier: BUSL-1.1
"""Options and arguments that several commands share, and what completes them.

Completion answers while somebody types: it asks no network, and a broken home gives
nothing instead of an error in the middle of the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import click

from mlos_core.errors import MlosError

F = TypeVar("F", bound=Callable[..., Any])
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completing(find: Callable[[], Iterable[str]]) -> Complete:
    """Completion by the names that `find` gives."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        with suppress(MlosError, OSError):
            return [name for name in find() if name.startswith(incomplete)]
        return []

    return complete


def _installed() -> list[str]:
    from axon_client.store import Store

    models = [model.spec for model in Store().installed()]
    bare = [f"{spec.namespace}/{spec.name}" for spec in models]
    return list(dict.fromkeys([*map(str, models), *bare]))


def _registries() -> list[str]:
    from axon_client import config

    return list(config.load().registries)


def _keys() -> list[str]:
    from axon_client import config, config_file

    return config_file.keys(config.default_home())


installed_names = completing(_installed)
registry_names = completing(_registries)
config_keys = completing(_keys)


def json_option(command: F) -> F:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def registry_option(command: F) -> F:
    """Adds `--registry NAME`."""
    return click.option(
        "--registry",
        metavar="NAME",
        help="A configured registry, or its URL; by default the package's own.",
        shell_complete=registry_names,
    )(command)


def installed_argument(command: F) -> F:
    """Adds SPEC, which names an installed model."""
    return click.argument("spec", shell_complete=installed_names)(command)
