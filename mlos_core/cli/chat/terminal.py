# SPDX-License-Identifier: BUSL-1.1
"""The person's side: lines typed, text shown.

A model's words may not drive the terminal: control characters are dropped on their way there.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Final

import click

PROMPT: Final = ">>> "
MORE: Final = "... "
_KEPT: Final = frozenset("\n\t")


def printable(text: str) -> str:
    """`text` without control characters other than line ends and tabs."""
    if text.isprintable():
        return text
    return "".join(c for c in text if c in _KEPT or not _controls(c))


def _controls(c: str) -> bool:
    code = ord(c)
    # C0, DEL and C1; marks that turn the direction of what follows.
    return (
        code < 0x20 or 0x7F <= code < 0xA0 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )


def interactive() -> bool:
    """Whether a person types."""
    return sys.stdin.isatty()


def line_editing() -> None:
    """Editing and history of typed lines, where this Python has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is imported)


def read() -> str:
    r"""What the person types; a line that ends with `\` goes on in the next.

    Raises:
        EOFError: ctrl-D.
        KeyboardInterrupt: ctrl-C.
    """
    line = input(PROMPT)
    while line.endswith("\\"):
        line = line[:-1] + "\n" + input(MORE)
    return line.strip()


def show(text: str) -> None:
    """Words of the model, at once."""
    click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)


def note(text: str) -> None:
    """A remark beside the conversation."""
    click.echo(click.style(printable(text), dim=True), err=True)


def everything() -> str:
    """All of the standard input, where no person types."""
    return sys.stdin.buffer.read().decode(errors="replace").strip()
