# SPDX-License-Identifier: BUSL-1.1
"""`axon registry add|remove|list|set|login|logout`, and the server's own commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, get_args

import click
import msgspec

from axon_client import config as settings
from axon_client import config_file, credentials, render
from axon_client.commands.lazy import LazyGroup
from axon_client.commands.options import json_option, registry_names
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound, Unsupported

SERVER: Final = {
    "serve": ("registry_server", "serve", "Serve a registry from this machine."),
    "export": ("registry_server", "export", "Write a registry as files for any web server."),
    "token": ("registry_server", "token", "Make, list and revoke the tokens of a registry."),
}
NAME = click.argument("name", shell_complete=registry_names)
_MOST_TOKEN: Final = 64 << 10


@click.group(cls=LazyGroup, table=SERVER)
def registry() -> None:
    """Add, choose, log in to and serve registries."""


@registry.command()
@click.argument("name")
@click.argument("url")
@click.option("--kind", type=click.Choice(get_args(settings.Kind)), help="What it speaks.")
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="NS", help="Asked there, nowhere else."
)
@click.option(
    "--policy",
    type=click.Choice(get_args(settings.Policy)),
    default="off",
    show_default=True,
    help="What is done about packages without a trusted signature.",
)
@json_option
def add(
    name: str, url: str, kind: str | None, namespaces: Sequence[str], policy: str, as_json: bool
) -> None:
    """Add a registry. The first one of kind axon that claims no namespace is the default."""
    kind = kind or ("oci" if url.startswith("oci:") else "axon")
    entry = {"url": url, "kind": kind, "namespaces": list(namespaces), "policy": policy}

    def change(values: dict[str, Any]) -> None:
        there = values.setdefault("registries", {})
        if name in there:
            raise AlreadyExists(
                f"there is a registry {name!r} already: {there[name].get('url', '')}",
                hint=f"axon registry set {name} URL changes it",
            )
        there[name] = {key: value for key, value in entry.items() if value}
        if kind == "axon" and not namespaces and not values.get("default_registry"):
            values["default_registry"] = name

    _changed(name, config_file.edit(settings.default_home(), change), as_json)


@registry.command("set")
@NAME
@click.argument("url", required=False)
@json_option
def choose(name: str, url: str | None, as_json: bool) -> None:
    """Make a registry the default; with a URL it is added or changed."""

    def change(values: dict[str, Any]) -> None:
        there = values.setdefault("registries", {})
        if url:
            there.setdefault(name, {})["url"] = url
        elif name not in there:
            raise _no_registry(name, there)
        if there[name].get("kind", "axon") == "axon":
            values["default_registry"] = name

    _changed(name, config_file.edit(settings.default_home(), change), as_json)


def _changed(name: str, config: settings.Config, as_json: bool) -> None:
    about = _about(name, config)
    if as_json:
        render.show_json(about)
        return
    default = ", the default one" if about["default"] else ""
    render.show(f"registry {name}{default}: {about['url']}")


@registry.command()
@NAME
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a registry, and its token if no other registry is on that host."""
    gone: list[str] = []

    def change(values: dict[str, Any]) -> None:
        there = values.get("registries", {})
        if name not in there:
            raise _no_registry(name, there)
        gone.append(there.pop(name).get("url", ""))
        if values.get("default_registry") == name:
            del values["default_registry"]

    left = config_file.edit(settings.default_home(), change)
    place = credentials.origin(gone[0])
    if place not in {credentials.origin(other.url) for other in left.registries.values()}:
        credentials.forget(gone[0])
    if as_json:
        render.show_json({"removed": name, "default": left.default_registry})
    else:
        render.show(f"removed {name}; the default registry is {left.default_registry or 'unset'}")


@registry.command("list")
@json_option
def list_registries(as_json: bool) -> None:
    """The registries, the default one marked with *."""
    config = settings.load()
    rows = [_about(name, config) for name in config.registries]
    if as_json:
        render.show_json(rows)
    elif not rows:
        render.show("no registries; add one with: axon registry add NAME URL")
    else:
        titles = ("", "name", "url", "kind", "namespaces", "policy", "login")
        render.show_table(titles, map(_row, rows))


def _about(name: str, config: settings.Config) -> dict[str, Any]:
    entry = config.registries[name]
    return {
        "name": name,
        **{field: getattr(entry, field) for field in entry.__struct_fields__},
        "default": name == config.default_registry,
        "login": credentials.find(entry.url) is not None,
    }


def _row(about: dict[str, Any]) -> tuple[str, ...]:
    mark, login = "*" if about["default"] else "", "yes" if about["login"] else ""
    claimed = ", ".join(about["namespaces"])
    return (mark, about["name"], about["url"], about["kind"], claimed, about["policy"], login)


@registry.command()
@NAME
@click.option("--username", "-u", default="", help="For OCI registries: the token is a password.")
@click.option("--no-check", is_flag=True, help="Keep it without asking the registry.")
@json_option
def login(name: str, username: str, no_check: bool, as_json: bool) -> None:
    """Keep a token for a registry's host. It is read from a prompt, or from standard input."""
    entry = _find(name)
    credential = credentials.Credential(_read_token(), username)
    credentials.check(credential)
    if not credentials.is_private(entry.url):
        render.warn(f"{entry.url} is not encrypted: who is on the way can read the token")
    about: dict[str, Any] = {"registry": name, "host": credentials.origin(entry.url)}
    if entry.kind == "axon" and not no_check:
        about |= _identity(entry.url, credential)
    credentials.keep(entry.url, credential)
    if as_json:
        render.show_json(about)
    else:
        who = f" as {about['name']}" if about.get("name") else ""
        scopes = f" ({', '.join(about['scopes'])})" if about.get("scopes") else ""
        render.show(f"logged in to {name}{who}{scopes}")


def _identity(url: str, credential: credentials.Credential) -> dict[str, Any]:
    """Whom the registry takes us for."""
    from axon_client.remote import Remote

    remote = Remote(url, credential=credential)
    try:
        about: dict[str, Any] = msgspec.to_builtins(remote.whoami())
    except NotFound:
        if remote.about().static:
            raise Unsupported(
                f"{url} is a registry of plain files, which knows no tokens",
                hint="log in to the one that it is exported from",
            ) from None
        raise
    return about


@registry.command()
@NAME
@json_option
def logout(name: str, as_json: bool) -> None:
    """Forget the token of a registry's host."""
    there = credentials.forget(_find(name).url)
    if as_json:
        render.show_json({"registry": name, "forgotten": there})
    else:
        render.show(f"forgot the token of {name}" if there else f"there was no token of {name}")


def _read_token() -> str:
    if sys.stdin.isatty():
        token: str = click.prompt("token", hide_input=True, err=True)
        return token.strip()
    text = sys.stdin.read(_MOST_TOKEN).strip()
    if not text:
        raise InvalidInput("no token on standard input", hint="echo $TOKEN | axon registry login …")
    return text


def _find(name: str) -> settings.Registry:
    there = settings.load().registries
    if name not in there:
        raise _no_registry(name, there)
    return there[name]


def _no_registry(name: str, there: Any) -> NotFound:
    hint = settings.suggest(name, there) or f"axon registry add {name} URL"
    return NotFound(f"there is no registry {name!r}", hint=hint)
