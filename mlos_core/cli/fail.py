# SPDX-License-Identifier: BUSL-1.1
"""How a command ends that cannot go on: one line, one hint, the error's exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

import click

from mlos_core.errors import MlosError

_INTERRUPTED = 130


def fail(error: MlosError, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong and end the process."""
    if as_json:
        body = {"code": error.code, "message": error.message, "hint": error.hint}
        click.echo(json.dumps({"error": body}), err=True)
    else:
        tell(error)
    sys.exit(error.exit_code)


def tell(error: MlosError) -> None:
    """Say what went wrong, and what to do about it."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"{click.style(' hint:', fg='cyan')} {error.hint}", err=True)


@contextlib.contextmanager
def guarded(*, as_json: bool) -> Iterator[None]:
    """Turn errors of the block into the end of the command, never into a traceback."""
    try:
        yield
    except MlosError as err:
        fail(err, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as err:
        what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
        fail(MlosError(what), as_json=as_json)
