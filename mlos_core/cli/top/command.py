# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl top`: read, compare with the last reading, show, wait."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import click
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from mlos_core.cli import render
from mlos_core.cli.context import Context, command
from mlos_core.cli.top import view
from mlos_core.cli.top.keys import Keys
from mlos_core.cli.top.rates import View, compare
from mlos_core.cli.top.sample import Sample, read
from mlos_core.client import Client
from mlos_core.errors import MlosError

_ORDERS: Final = tuple(view.ORDERS)
_FIRST_S: Final = 0.3


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600.0),
    default=1.0,
    show_default=True,
    help="Seconds between two readings.",
)
@click.option("--once", is_flag=True, help="Show one interval and end.")
@click.option("--sort", "order", type=click.Choice(_ORDERS), default="name", show_default=True)
@command
def top(context: Context, interval: float, once: bool, order: str) -> None:
    """Watch models, versions and workers: rates, percentiles, memory.

    In the live view, q ends it and s sorts by the next column. In a pipe, or with --json, one
    view follows the other.
    """
    with context.client() as client, contextlib.suppress(KeyboardInterrupt):
        out = render.console()
        if once or context.as_json or not out.is_terminal:
            _print(client, context.as_json, interval, once, order)
        else:
            _Watch(client, interval, order).run()


def _print(client: Client, as_json: bool, interval: float, once: bool, order: str) -> None:
    before = read(client)
    while True:
        time.sleep(interval)
        now = read(client)
        shown = compare(before, now)
        if as_json:
            render.print_json_line(shown)
        else:
            render.console().print(view.render(shown, order))
        if once:
            return
        before = now


class _Watch:
    """The live view in a terminal."""

    def __init__(self, client: Client, interval: float, order: str) -> None:
        self._client = client
        self._interval = interval
        self._order = order
        self._last: Sample | None = None
        self._shown: View | None = None
        self._silence = ""

    def run(self) -> None:
        """Until the key `q`."""
        due = time.monotonic()
        with Keys() as keys, Live(screen=True, auto_refresh=False) as live:
            while True:
                if time.monotonic() >= due:
                    self._look()
                    # The first figures come soon, and are those of a short while.
                    due = time.monotonic() + (self._interval if self._shown else _FIRST_S)
                live.update(self._drawn(), refresh=True)
                key = keys.next(max(0.0, due - time.monotonic()))
                if key == "q":
                    return
                if key == "s":
                    self._order = _ORDERS[(_ORDERS.index(self._order) + 1) % len(_ORDERS)]

    def _look(self) -> None:
        try:
            now = read(self._client)
        except MlosError as err:
            self._last, self._shown, self._silence = None, None, f"{err.message}; trying again"
            return
        self._shown = compare(self._last, now) if self._last is not None else None
        self._last, self._silence = now, ""

    def _drawn(self) -> RenderableType:
        if self._shown is None:
            return Text(self._silence, style="yellow")
        hint = f"q quit   s sort ({self._order})   every {self._interval:g} s"
        return view.render(self._shown, self._order, hint)
