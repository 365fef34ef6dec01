# SPDX-License-Identifier: BUSL-1.1
"""What is said of published versions: `axon yank`, `axon unyank`, `axon tag`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axon_client import render
from axon_client.commands.lazy import LazyGroup
from axon_client.commands.options import installed_names, json_option, registry_option
from mlos_core.errors import InvalidInput

if TYPE_CHECKING:
    from axon_client.remote import Remote
    from axon_client.spec import PackageSpec


def _remote(name: str | None, spec: PackageSpec) -> Remote:
    from axon_client.publish import registry_for
    from axon_client.remote import Remote

    url, kind = registry_for(name, spec.namespace)
    if kind != "axon":
        raise InvalidInput(f"{url} is of kind {kind}, which has no yanks and tags of this sort")
    return Remote(url)


def _spec(text: str, *, version: bool) -> PackageSpec:
    from axon_client.spec import parse_name

    spec = parse_name(text)
    if not spec.namespace or bool(spec.version) != version:
        form = "namespace/name@version" if version else "namespace/name"
        raise InvalidInput(f"{text!r} does not name a {'version' if version else 'package'}",
                           hint=f"write {form}")  # fmt: skip
    return spec


@click.command()
@click.argument("spec", shell_complete=installed_names)
@click.option("--reason", default="", help="Shown to whoever asks for the version.")
@registry_option
@json_option
def yank(spec: str, reason: str, registry: str | None, as_json: bool) -> None:
    """Say that nobody should choose a version any more. Locks that name it still work."""
    package = _spec(spec, version=True)
    _remote(registry, package).yank(package, reason)
    _done(as_json, f"yanked {package}", {"package": str(package), "yanked": reason})


@click.command()
@click.argument("spec", shell_complete=installed_names)
@registry_option
@json_option
def unyank(spec: str, registry: str | None, as_json: bool) -> None:
    """Take a yank back."""
    package = _spec(spec, version=True)
    _remote(registry, package).yank(package, None)
    _done(as_json, f"{package} is no longer yanked", {"package": str(package), "yanked": None})


def _done(as_json: bool, line: str, about: dict[str, Any]) -> None:
    if as_json:
        render.show_json(about)
    else:
        render.show(line)


@click.group(cls=LazyGroup, table={})
def tag() -> None:
    """The tags of a package in its registry, such as latest and stable."""


@tag.command("add")
@click.argument("spec", shell_complete=installed_names)
@click.argument("name", metavar="TAG")
@registry_option
@json_option
def add(spec: str, name: str, registry: str | None, as_json: bool) -> None:
    """Let a tag name a version: axon tag add acme/model@1.2.0 stable."""
    package = _spec(spec, version=True)
    _remote(registry, package).set_tag(package, name)
    _done(as_json, f"{name} is now {package}", {"package": str(package), "tag": name})


@tag.command("remove")
@click.argument("spec", shell_complete=installed_names)
@click.argument("name", metavar="TAG")
@registry_option
@json_option
def remove(spec: str, name: str, registry: str | None, as_json: bool) -> None:
    """Remove a tag of a package."""
    package = _spec(spec, version=False)
    _remote(registry, package).remove_tag(package, name)
    _done(as_json, f"{package} has no tag {name} any more", {"package": str(package), "tag": name})


@tag.command("list")
@click.argument("spec", shell_complete=installed_names)
@registry_option
@json_option
def list_tags(spec: str, registry: str | None, as_json: bool) -> None:
    """List the tags of a package, and its versions."""
    package = _spec(spec, version=False)
    index = _remote(registry, package).package(package)
    if as_json:
        import msgspec

        render.show_json(msgspec.to_builtins(index))
        return
    render.show(*(f"{name}  {version}" for name, version in index.tags.items()))
    rows = [
        (r.version, r.created, render.size(r.size), _yanked(r.yanked)) for r in index.versions
    ]  # fmt: skip
    render.show_table(("version", "created", "size", ""), rows, ("size",))


def _yanked(reason: str | None) -> str:
    return "" if reason is None else f"yanked: {reason}".removesuffix(": ")
