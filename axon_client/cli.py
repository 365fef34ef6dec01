# SPDX-License-Identifier: BUSL-1.1
"""The `axon` command: its subcommands by name, and how errors are shown.

A subcommand's module is imported when it is called, not before: help and completion answer
at once however much the others need.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from axon_client import render
from axon_client.commands.lazy import LazyGroup
from mlos_core.errors import Cancelled, MlosError, NotFound, OutOfMemory, PermissionDenied

COMMANDS: Final = {
    "init": ("project", "init", "Begin a project, or a package of one's own."),
    "search": ("search", "search", "Search registries and other sources."),
    "install": ("install", "install", "Install a model."),
    "list": ("installed", "list_models", "List installed models."),
    "info": ("info", "info", "Show a model: its manifest, its files, their inputs and outputs."),
    "verify": ("installed", "verify", "Hash every file again, of the named models or of all."),
    "uninstall": ("installed", "uninstall", "Remove models, and the files no other model uses."),
    "outdated": ("update", "outdated", "Show of which models there are newer versions."),
    "update": ("update", "update", "Take newer versions; swap what is served live."),
    "lock": ("project", "lock", "Write the exact versions and digests of a project's models."),
    "sync": ("project", "sync", "Install exactly what a project's lock lists."),
    "register": ("register", "register", "Hand an installed model to the daemon."),
    "publish": ("publish", "publish", "Publish a model to a registry."),
    "yank": ("tags", "yank", "Say that nobody should choose a version any more."),
    "unyank": ("tags", "unyank", "Take a yank back."),
    "tag": ("tags", "tag", "Add, remove and list the tags of a package in its registry."),
    "keygen": ("trust", "keygen", "Make a key pair to sign packages with."),
    "trust": ("trust", "trust_group", "Say whose signatures are trusted, and for what."),
    "pack": ("pack", "pack", "Write a package into one .axon file."),
    "unpack": ("pack", "unpack", "Unpack an .axon file, checking every file in it."),
    "registry": ("registry", "registry", "Add, choose, log in to and serve registries."),
    "cache": ("cache", "cache", "Show what the store holds, and clear away what nothing needs."),
    "config": ("config", "config", "Read and change settings."),
    "version": ("shell", "version", "Show the version."),
    "completion": ("shell", "completion", "Print what makes a shell complete axon's commands."),
}
"""By name: the module in `axon_client.commands`, the command in it, its line in the help."""

ELSEWHERE: Final = {
    **dict.fromkeys(("add", "i", "pull", "get", "download"), "install"),
    **dict.fromkeys(("rm", "remove", "delete", "rmi"), "uninstall"),
    **dict.fromkeys(("show", "view", "inspect"), "info"),
    **dict.fromkeys(("ls", "ps", "models"), "list"),
    **dict.fromkeys(("push", "upload"), "publish"),
    **dict.fromkeys(("freeze", "compile"), "lock"),
    **dict.fromkeys(("gc", "prune"), "cache gc"),
    "ci": "sync --frozen",
    "new": "init",
    "find": "search",
    "load": "register",
    "login": "registry login",
    "logout": "registry logout",
    "serve": "registry serve",
    "token": "registry token",
    "help": "--help",
}
"""What npm, pip, uv, docker and the hub's own tool call it, and how it is written here."""

EXIT_CODES: Final = """\b
Exit codes:
  0    done
  2    the command line is wrong
  65   an input, a manifest or a model is wrong
  66   no such package, version, file or key
  69   a source, registry or daemon cannot be reached, or cannot do that
  70   a fault of axon itself
  71   out of memory or disk
  73   the name is taken by something different
  74   bytes are not what their digest or signature promises
  75   it took too long, or the other side is busy: try again
  76   the other side does not speak the protocol
  77   not allowed
  78   the configuration is wrong
  130  interrupted"""


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from axon_client.commands.shell import version

        ctx.exit(ctx.invoke(version))


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    elsewhere=ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Install, inspect, publish and register models.

    A package is called namespace/name@version, for example pypi/magika@1.0.3. Models are
    kept in ~/.axon, or where AXON_HOME says.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code. Shows errors, raises none."""
    try:
        result = cli.main(list(arguments), prog_name="axon", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _misused(error, arguments)
    except MlosError as error:
        return _fail(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        return _fail(Cancelled("interrupted"), arguments)
    except OSError as error:
        return _fail(_of_system(error), arguments)
    except Exception as error:
        if os.environ.get("AXON_DEBUG"):
            raise
        fault = MlosError(f"{type(error).__name__}: {error}", hint="AXON_DEBUG=1 shows where")
        return _fail(fault, arguments)


_KINDS: Final[Mapping[int, type[MlosError]]] = {
    errno.ENOSPC: OutOfMemory,
    errno.EDQUOT: OutOfMemory,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENOENT: NotFound,
}


def _of_system(error: OSError) -> MlosError:
    """What the system refuses where no command has said what that means."""
    where = f"{error.filename}: " if error.filename else ""
    kind = _KINDS.get(error.errno or 0, MlosError)
    hint = "make room, or let AXON_HOME name a folder on another disk"
    return kind(f"{where}{error.strerror or error}", hint=hint if kind is OutOfMemory else "")


def _fail(error: MlosError, arguments: Sequence[str]) -> int:
    if "--json" not in arguments or not _told(render.error_json(error)):
        render.show_error(error)
    return error.exit_code


def _told(about: dict[str, Any]) -> bool:
    """Whether JSON could be written: standard output may be what failed."""
    try:
        render.show_json(about)
    except OSError:
        return False
    return True


def _misused(error: click.ClickException, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        about = {"code": "usage", "message": error.format_message(), "hint": "see --help"}
        render.show_json({"error": about})
    else:
        error.show()
    return error.exit_code


def main() -> NoReturn:
    """The entry point."""
    if sys.stdout is None:  # closed by whoever started this: no file may take its number
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
