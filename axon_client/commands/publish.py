# SPDX-License-Identifier: BUSL-1.1
"""`axon publish`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from axon_client import render
from axon_client.commands.options import installed_names, json_option, registry_option

if TYPE_CHECKING:
    from axon_client.prepare import Package
    from axon_client.progress import Progress
    from axon_client.store import Store
    from axon_client.trust import SigningKey


@click.command()
@click.argument("what", metavar="SPEC|FOLDER", shell_complete=installed_names)
@registry_option
@click.option("--target", hidden=True, help="The same as --registry; oci://… too.")
@click.option("--as", "name", metavar="SPEC", help="Publish it as namespace/name@version.")
@click.option("--tag", "tags", multiple=True, help="A name for this version, such as stable.")
@click.option("--sign", is_flag=True, help="Sign the manifest with your key; see axon keygen.")
@click.option("--key", default="", help="Which of your keys signs; implies --sign.")
@click.option("--allow-pickle", is_flag=True, help="Publish files that run code when opened.")
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing.")
@json_option
def publish(
    what: str,
    registry: str | None,
    target: str | None,
    name: str | None,
    tags: Sequence[str],
    sign: bool,
    key: str,
    allow_pickle: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish an installed model, or a folder or file (./dir), to a registry.

    Only files that the registry lacks are sent; what was cut goes on. A published version
    never changes.
    """
    from axon_client.prepare import prepared
    from axon_client.spec import PathSpec, parse, parse_name
    from axon_client.store import Store

    store, named = Store(), parse(what) if what.startswith((".", "/", "~")) else what
    signing = _key(key) if sign or key else None
    with (
        render.progress_bars(not as_json) as progress,
        prepared(
            named if isinstance(named, PathSpec) else what,
            store,
            rename=parse_name(name) if name else None,
            allow_pickle=allow_pickle,
            progress=progress,
        ) as package,
    ):
        done = _publish(package, registry or target, signing, tags, dry_run, store, progress)
    if as_json:
        render.show_json(done)
    else:
        render.show(*_lines(done))


def _publish(
    package: Package,
    place: str | None,
    key: SigningKey | None,
    tags: Sequence[str],
    dry_run: bool,
    store: Store,
    progress: Progress,
) -> dict[str, Any]:
    """To whichever kind of registry it is."""
    from axon_client import publish as publishing
    from axon_client import trust

    url, kind = publishing.registry_for(place, package.spec.namespace)
    signatures = [*package.signatures, *([trust.sign(key, package.data)] if key else [])]
    if kind == "axon":
        from axon_client.remote import Remote

        return publishing.publish(
            package, Remote(url), store, tags, signatures, dry_run=dry_run, progress=progress
        ).as_dict()
    from axon_client.oci.publishing import publish as push

    return push(
        package.spec, package.data, package.folder, url, tags, signatures,
        whole=bool(place and "://" in place), dry_run=dry_run, progress=progress,
    )  # fmt: skip


def _key(name: str) -> SigningKey:
    from axon_client import trust
    from axon_client.trust import keys

    def ask() -> str:
        text: str = click.prompt("Passphrase of the key", hide_input=True, err=True)
        return text

    return trust.load_key(name or keys.DEFAULT, ask=ask)


def _lines(done: dict[str, Any]) -> list[str]:
    package, size = done["package"], render.size(done["size"])
    if done["dry_run"]:
        verb = "would be published" if done.get("new", True) else "is published already"
        return [f"{package} {verb} to {done['registry']}: {done['files']} files, {size}"]
    verb = "published" if done["new"] else "was published already:"
    signed = ", signed" if done["signed"] else ""
    tags = f", tagged {', '.join(done['tags'])}" if done["tags"] else ""
    lines = [f"{verb} {package} to {done['registry']}{signed}{tags}"]
    if isinstance(done["sent"], dict):
        sent = done["sent"]
        there = "; the others were there" if sent["files"] < done["files"] else ""
        count = f"{sent['files']} of {done['files']} files"
        return [*lines, f"  sent {count}, {render.size(sent['bytes'])} of {size}{there}"]
    return [*lines, f"  {done['digest']}: {done['sent']} of {done['files']} files were sent"]
