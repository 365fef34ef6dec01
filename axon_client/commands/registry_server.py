# SPDX-License-Identifier: BUSL-1.1
"""`axon registry serve`, `axon registry export` and `axon registry token`."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axon_client import render
from axon_client.commands.options import json_option
from axon_client.store import default_home
from mlos_core.errors import ConfigError

if TYPE_CHECKING:
    from axon_client.registry.site import Site

_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="The registry's folder; AXON_HOME/registry by default.",
)


def _open(data: Path | None, name: str = "axon", private: bool = False) -> Site:
    from axon_client.registry.site import Settings, Site

    folder = data if data is not None else default_home() / "registry"
    return Site(folder, Settings(name=name, private=private))


@click.command()
@_data
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any."
)
@click.option("--name", default="axon", show_default=True, help="What the registry calls itself.")
@click.option("--private", is_flag=True, help="Reading needs a token, too.")
@click.option("--quiet", is_flag=True, help="Write no access log.")
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    help="Write the address to this file descriptor when ready.",
)
@json_option
def serve(
    data: Path | None,
    host: str,
    port: int,
    name: str,
    private: bool,
    quiet: bool,
    ready_fd: int | None,
    as_json: bool,
) -> None:
    """Serve a registry until SIGTERM or Ctrl-C.

    With --json the first line on stdout is an object with its "url", written when it serves.
    """
    from axon_client.registry import server

    _log(quiet)
    site = _open(data, name, private)
    sock = server.listen(host, port)
    if not ipaddress.ip_address(sock.getsockname()[0]).is_loopback:
        render.warn("tokens can be read on the network: put a proxy with TLS in front")

    def ready(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": url, "data": str(site.folder), "pid": os.getpid()}))
        else:
            click.echo(f"serving {site.folder} at {url}")
        sys.stdout.flush()
        if ready_fd is not None:
            _tell(ready_fd, url)

    try:
        server.serve(site, sock, ready)
    finally:
        site.close()


def _tell(handle: int, url: str) -> None:
    try:
        with os.fdopen(handle, "w") as out:
            out.write(url + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write to --ready-fd {handle}: {error.strerror}") from error


def _log(quiet: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    for name in ("axon.registry", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if name.startswith("axon") else logging.WARNING)
    if quiet:
        logging.getLogger("axon.registry.access").setLevel(logging.WARNING)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_data
@click.option("--name", default="axon", show_default=True, help="What the registry calls itself.")
@click.option("--archives/--no-archives", default=True, help="Also packages/*.axon, as copies.")
@json_option
def export(folder: Path, data: Path | None, name: str, archives: bool, as_json: bool) -> None:
    """Write the registry as plain files, which any web server can serve."""
    from axon_client.registry.export import export as write

    site = _open(data, name)
    try:
        with render.progress_bars(not as_json) as progress:
            done = write(site, folder, archives=archives, progress=progress)
    finally:
        site.close()
    if as_json:
        render.show_json({f: getattr(done, f) for f in done.__struct_fields__})
    else:
        render.show(f"exported {done.versions} versions of {done.packages} packages to {folder}")


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of a registry that is served from here."""


@token.command("create")
@click.argument("label")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    metavar="SCOPE",
    help="read, publish:NAMESPACE, publish:* or admin; may be given several times.",
)
@click.option("--days", type=float, help="When it expires; at most 36500.")
@_data
@json_option
def create(
    label: str, scopes: tuple[str, ...], days: float | None, data: Path | None, as_json: bool
) -> None:
    """Make a token and show it; it is kept nowhere and never shown again."""
    site = _open(data)
    try:
        text, made = site.tokens.create(label, scopes, days)
    finally:
        site.close()
    if as_json:
        render.show_json({"token": text, "id": made.id, "scopes": made.scopes})
    else:
        click.echo(text)


@token.command("list")
@_data
@json_option
def list_tokens(data: Path | None, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    site = _open(data)
    try:
        tokens = site.tokens.all()
    finally:
        site.close()
    if as_json:
        fields = ("id", "label", "scopes", "created", "expires")
        render.show_json([{field: getattr(t, field) for field in fields} for t in tokens])
        return
    for known in tokens:
        end = f", expires {known.expires}" if known.expires else ""
        render.show(f"{known.id}  {known.label}: {', '.join(known.scopes)}{end}")


@token.command("revoke")
@click.argument("id")
@_data
@json_option
def revoke(id: str, data: Path | None, as_json: bool) -> None:
    """Revoke a token, by its id. It is refused from now on."""
    site = _open(data)
    try:
        site.tokens.revoke(id)
    finally:
        site.close()
    if as_json:
        render.show_json({"revoked": id})
    else:
        render.show(f"revoked {id}")
