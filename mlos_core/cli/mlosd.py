# SPDX-License-Identifier: BUSL-1.1
"""`mlosd`: the daemon's command line. Flags win over the environment, that over the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mlos_core import __version__, config
from mlos_core.cli.fail import fail, guarded
from mlos_core.errors import ConfigError
from mlos_core.resources.units import parse_size


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlosd")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--run-dir", help="Folder of the control socket.")
@click.option("--state-dir", help="Folder of the model registry.")
@click.option("--http/--no-http", default=None, help="Serve HTTP (default: yes).")
@click.option("--http-host", help="Address to listen on (default: 127.0.0.1).")
@click.option("--http-port", help="Port; 0 takes any free one (default: 8080).")
@click.option("--http-socket", help="Also listen on this Unix socket.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="For people or machines.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--keep-workers/--end-workers", default=None, help="On SIGTERM, leave workers be.")
@click.option(
    "--memory-budget", metavar="SIZE", help="What all models may take: 4GiB (0: no limit)."
)
@click.option(
    "--warm",
    multiple=True,
    metavar="PLUGIN",
    help="Keep this plugin's framework loaded; repeatable.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting; repeatable."
)
@click.option("--show-config", is_flag=True, help="Print the settings in force and exit.")
def mlosd(
    file: Path | None,
    settings: tuple[str, ...],
    show_config: bool,
    memory_budget: str | None,
    warm: tuple[str, ...],
    **flags: Any,
) -> None:
    """Run the MLOS daemon in the foreground.

    Settings come from a TOML file (--config or MLOS_CONFIG), MLOS_* variables and flags.
    """
    with guarded(as_json=False):
        merged = {**_pairs(settings), **{k: v for k, v in flags.items() if v is not None}}
        if memory_budget is not None:
            merged["memory_budget"] = memory_budget
        if "memory_budget" in merged:
            merged["memory_budget"] = parse_size(str(merged["memory_budget"]))
        if warm:
            merged["warm_plugins"] = warm
        loaded = config.load(file, flags=merged)
        if show_config:
            _show(loaded)
            return
        # Only now: --help and a wrong setting must not wait for the event loop's import.
        from mlos_core.daemon.main import run

        sys.exit(run(loaded))


def _pairs(settings: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            fail(ConfigError(f"--set {setting}", hint="write --set KEY=VALUE"))
        values[key.replace("-", "_")] = config.parse(key, value)
    return values


def _show(loaded: config.Config) -> None:
    import msgspec

    for key, value in sorted(msgspec.to_builtins(loaded).items()):
        shown = f"0o{value:o}" if key == "socket_mode" else msgspec.json.encode(value).decode()
        click.echo(f"{key} = {shown}")


def main() -> None:
    """Entry point."""
    mlosd(prog_name="mlosd")


if __name__ == "__main__":
    main()
