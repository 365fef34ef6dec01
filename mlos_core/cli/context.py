# SPDX-License-Identifier: BUSL-1.1
"""What every command of `mlosctl` shares: `--socket`, `--json`, the connection, its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from mlos_core.cli.fail import guarded
from mlos_core.client import Client, connect


class Context(msgspec.Struct):
    """The options every command has."""

    socket: str | None = None
    as_json: bool = False

    @classmethod
    def of(cls, context: click.Context, socket: str | None, as_json: bool) -> Context:
        """These options, or where they are not given those in front of the command."""
        above = context.obj if isinstance(context.obj, Context) else cls()
        return cls(socket or above.socket, as_json or above.as_json)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the daemon.

        Raises:
            Unavailable: none runs there; the hint says how to start one.
        """
        with connect(self.socket) as client:
            yield client


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--socket` and `--json`, also behind its name, and an orderly end.

    The function gets a `Context` as its first argument.
    """

    @click.option("--socket", metavar="PATH", help="The daemon's control socket.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_context
    @functools.wraps(function)
    def wrapped(
        click_context: click.Context, /, *, socket: str | None, as_json: bool, **rest: Any
    ) -> None:
        context = Context.of(click_context, socket, as_json)
        with guarded(as_json=context.as_json):
            function(context, **rest)

    return wrapped
