# SPDX-License-Identifier: BUSL-1.1
"""Keys and whom one trusts: `axon keygen`, `axon trust add|remove|list`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
import msgspec

from axon_client import config, render, trust
from axon_client.commands.options import json_option
from axon_client.trust import keys
from mlos_core.errors import NotFound


@click.command()
@click.option("--name", default=keys.DEFAULT, show_default=True, help="What to call the key.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that protects the key.")
@json_option
def keygen(name: str, passphrase: bool, as_json: bool) -> None:
    """Make a key pair to sign packages with.

    The private half stays in the store's folder; others trust the public half that this
    prints. AXON_KEY_PASSPHRASE protects the key too, where nobody can be asked.
    """
    secret = os.environ.get(keys.VARIABLE, "")
    if passphrase and not secret:
        secret = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    key = trust.generate(name, passphrase=secret)
    path = keys.folder() / f"{name}.pem"
    if as_json:
        render.show_json({"name": name, "public": key.public, "path": str(path)})
        return
    render.show(key.public, f"  the private half is {path}: keep it to yourself")
    render.show(f"others trust it with: axon trust add {key.public} --namespace NAMESPACE")


@click.group("trust")
def trust_group() -> None:
    """Whose signatures are trusted, and for what."""


@trust_group.command("add")
@click.argument("key")
@click.option("--namespace", "namespaces", multiple=True, help="What it may sign for; * is all.")
@click.option("--registry", "registries", multiple=True, help="Whose packages it may sign.")
@click.option("--name", default="", help="Whose key it is.")
@json_option
def add(
    key: str, namespaces: Sequence[str], registries: Sequence[str], name: str, as_json: bool
) -> None:
    """Trust a public key: ed25519:..., or a file that holds one."""
    urls = [_url(registry) for registry in registries]
    entry = trust.add(trust.Trusted(trust.read_public(key), name, list(namespaces), urls))
    if as_json:
        render.show_json(msgspec.structs.asdict(entry))
    else:
        render.show(f"trusted for {_scope(entry)}: {entry.name or entry.key}")


@trust_group.command("remove")
@click.argument("key")
@json_option
def remove(key: str, as_json: bool) -> None:
    """Trust a key no more, given by itself or by its name."""
    entry = trust.remove(key)
    if as_json:
        render.show_json(msgspec.structs.asdict(entry))
    else:
        render.show(f"no longer trusted: {entry.name or entry.key}")


@trust_group.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the trusted keys, and what each may sign for."""
    entries = trust.trusted()
    if as_json:
        render.show_json([msgspec.structs.asdict(entry) for entry in entries])
        return
    for entry in entries:
        render.show(entry.key, f"  {entry.name or 'nobody named'}, for {_scope(entry)}")
    if not entries:
        render.show("no key is trusted yet: axon trust add KEY --namespace NAMESPACE")


def _url(registry: str) -> str:
    """A registry's URL: trust belongs to a place, and its name here may come to mean another."""
    if "://" in registry:
        return registry.rstrip("/")
    known = config.load().registries
    if registry not in known:
        raise NotFound(
            f"there is no registry {registry!r}",
            hint=config.suggest(registry, known) or f"axon registry add {registry} URL",
        )
    return known[registry].url.rstrip("/")


def _scope(entry: trust.Trusted) -> str:
    return ", ".join([*entry.namespaces, *entry.registries])
