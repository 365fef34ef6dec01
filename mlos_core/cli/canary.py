# SPDX-License-Identifier: BUSL-1.1
"""The options of a swap's trial, alike for models and plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mlos_core.cli.kinds import SECONDS

F = TypeVar("F", bound=Callable[..., Any])


def canary_options(command: F) -> F:
    """Adds `--canary` and `--max-error-rate`."""
    rate = click.option(
        "--max-error-rate",
        default=0.05,
        type=click.FloatRange(0, 1),
        show_default=True,
        help="Share of the new one's requests that may fail in that time; more: roll back.",
    )
    window = click.option(
        "--canary", default=0.0, type=SECONDS, help="How long old and new serve together: 30, 5m."
    )
    return window(rate(command))
