# SPDX-License-Identifier: BUSL-1.1
"""`axon cache list|stats|gc|clean`: what the store holds beside and below its models."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from axon_client import render
from axon_client.commands.lazy import LazyGroup
from axon_client.commands.options import json_option
from axon_client.store import Freed, Store

_SHORT = 12
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would go.")


@click.group(cls=LazyGroup, table={})
def cache() -> None:
    """Show what the store holds and uses, and clear away what nothing needs."""


@cache.command("list")
@json_option
def list_cache(as_json: bool) -> None:
    """Every stored file with what uses it, and every unfinished download."""
    store = Store()
    blobs, partials = store.held(), store.partials()
    if as_json:
        render.show_json({"blobs": blobs, "partials": partials})
        return
    rows = [(one.digest[:_SHORT], render.size(one.bytes), _why(one)) for one in blobs]
    rows += [(one.key[:40], render.size(one.bytes), _progress_of(one)) for one in partials]
    if rows:
        render.show_table(("content", "size", "used by"), rows, ("size",))
    else:
        render.show(f"{store.home} is empty")


def _why(blob: Any) -> str:
    texts = {
        "linked": "(linked from elsewhere)",
        "kept": "(fetched, kept a day for another attempt)",
        "unused": "(nothing)",
    }
    return ", ".join(blob.used_by) or texts.get(blob.state, blob.state)


def _progress_of(partial: Any) -> str:
    hours = (time.time() - partial.used) / 3600
    return "(download under way)" if partial.claimed else f"(download cut off {hours:.0f} h ago)"


@cache.command()
@json_option
def stats(as_json: bool) -> None:
    """How much is stored, shared and unused."""
    store = Store()
    usage = store.statistics()
    if as_json:
        layers = [str(layer.home) for layer in store.layers]
        render.show_json({"home": str(store.home), "layers": layers} | msgspec.to_builtins(usage))
        return
    shared = max(usage.model_bytes - (usage.blob_bytes - usage.unused_bytes - usage.kept_bytes), 0)
    lines = {
        "home": str(store.home),
        "layers": ", ".join(str(layer.home) for layer in store.layers),
        "models": f"{usage.models}, {render.size(usage.model_bytes)}",
        "stored": f"{usage.blobs} files, {render.size(usage.blob_bytes)}",
        "shared": f"{render.size(shared)} that models have in common",
        "unused": f"{usage.unused} files, {render.size(usage.unused_bytes)}",
        "kept": f"{usage.kept} files, {render.size(usage.kept_bytes)}",
        "downloads": f"{usage.partials} unfinished, {render.size(usage.partial_bytes)}, "
        f"{usage.claimed} under way",
        "staging": f"{usage.stages} installations",
    }
    render.show(*(f"{label:12} {value}" for label, value in lines.items() if value))


@cache.command()
@_dry_run
@json_option
def gc(dry_run: bool, as_json: bool) -> None:
    """Delete what nothing needs; keep what an installation may go on with.

    Fetched files stay a day, unfinished downloads a week.
    """
    _clear(dry_run, as_json, everything=False)


@cache.command()
@_dry_run
@json_option
def clean(dry_run: bool, as_json: bool) -> None:
    """Delete all that is not installed, nor being installed now."""
    _clear(dry_run, as_json, everything=True)


def _clear(dry_run: bool, as_json: bool, *, everything: bool) -> None:
    from axon_client.installation import explained

    store = Store()
    freed = Freed()
    with explained(store.home):
        if store.home.exists():
            freed = store.gc(dry_run=dry_run, everything=everything)
    if as_json:
        render.show_json({"dry_run": dry_run} | msgspec.to_builtins(freed))
        return
    parts = f"{freed.blobs} files, {freed.partials} unfinished downloads, {freed.stages} stages"
    verb = "would free" if dry_run else "freed"
    render.show(f"{verb} {render.size(freed.bytes)}: {parts}")
