# SPDX-License-Identifier: BUSL-1.1
"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from axon_client.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def installed_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completion of an installed model's name."""
    names = [str(model.spec) for model in Store().installed()]
    return [name for name in names if name.startswith(incomplete)]


def json_option(command: F) -> F:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def installed_argument(command: F) -> F:
    """Adds SPEC, which names an installed model."""
    return click.argument("spec", shell_complete=installed_names)(command)
