# SPDX-License-Identifier: BUSL-1.1
"""`axon search`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from axon_client import config, render
from axon_client.commands.options import completing, json_option, registry_names

if TYPE_CHECKING:
    from axon_client.remote import Entry
    from axon_client.searching import Found

_TEXT = 60
source_names = completing(lambda: ["pypi", "hf", "oci"])


@click.command()
@click.argument("query", nargs=-1)
@click.option(
    "--registry", "registries", multiple=True, metavar="NAME", shell_complete=registry_names,
    help="A configured registry, or a URL; by default all that are configured.",
)  # fmt: skip
@click.option(
    "--source", "sources", multiple=True, metavar="NAME", shell_complete=source_names,
    help="Another source, such as hf.",
)  # fmt: skip
@click.option("--namespace", default="", help="Only packages of this namespace.")
@click.option("--framework", default="", help="Only this framework, such as pytorch.")
@click.option("--format", "form", default="", help="Only this format, such as onnx.")
@click.option("--license", "licence", default="", help="Only this licence.")
@click.option("--tag", "tags", multiple=True, help="Only packages that have this tag.")
@click.option("--facets", is_flag=True, help="Count the hits by framework, format and so on.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def search(
    query: Sequence[str],
    registries: Sequence[str],
    sources: Sequence[str],
    namespace: str,
    framework: str,
    form: str,
    licence: str,
    tags: Sequence[str],
    facets: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Search registries and other sources. A * marks what is installed."""
    from axon_client import searching
    from axon_client.remote import Filters
    from axon_client.store import Store

    filters = Filters(namespace, framework, form, licence, tuple(tags))
    made = searching.chosen(registries, sources, config.load())
    answers = searching.search(made, " ".join(query), filters, limit, facets=facets)
    failed = [answer for answer in answers if answer.failure]
    if answers and len(failed) == len(answers) and failed[0].failure:
        raise failed[0].failure
    installed: dict[str, list[str]] = {}
    for model in Store().installed():
        spec = model.spec
        installed.setdefault(f"{spec.namespace}/{spec.name}", []).append(spec.version)
    if as_json:
        render.show_json(_json(answers, installed, facets))
        return
    for answer in failed:
        assert answer.failure
        render.warn(f"{answer.source}: {answer.failure}")
    _show(answers, installed)
    if facets:
        _show_facets(answers)


def _rows(answers: Sequence[Found]) -> Iterator[tuple[str, Entry]]:
    for answer in answers:
        yield from ((answer.source, entry) for entry in answer.entries)


def _json(
    answers: Sequence[Found], installed: dict[str, list[str]], facets: bool
) -> dict[str, Any]:
    import msgspec

    hits = []
    for source, entry in _rows(answers):
        there = installed.get(_title(entry), [])
        hits.append({"source": source, **msgspec.to_builtins(entry), "installed": there})
    failed = {a.source: render.error_json(a.failure)["error"] for a in answers if a.failure}
    about: dict[str, Any] = {
        "hits": hits,
        "totals": {answer.source: answer.total for answer in answers if not answer.failure},
        "failures": failed,
    }
    if facets:
        about["facets"] = {answer.source: answer.facets for answer in answers}
    return about


def _title(entry: Entry) -> str:
    return f"{entry.namespace}/{entry.name}"


def _show(answers: Sequence[Found], installed: dict[str, list[str]]) -> None:
    rows = list(_rows(answers))
    if not rows:
        render.show("nothing fits")
        return
    several = len({source for source, _ in rows}) > 1
    titles = ["", "package", "version", "framework", "size", "description"]
    table = []
    for source, entry in rows:
        there = installed.get(_title(entry), [])
        mark = "*" if entry.version in there else (f"({', '.join(there)})" if there else "")
        text = (entry.description or "").partition("\n")[0]
        cut = text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
        row = [mark, _title(entry), entry.version, entry.framework or "", render.size(entry.size)]
        table.append([*row, cut, *([source] if several else [])])
    render.show_table([*titles, *(["source"] if several else [])], table, ("size",))
    for answer in answers:
        if answer.total > len(answer.entries):
            shown = len(answer.entries)
            render.show(f"{answer.source}: {shown} of {answer.total}; --limit shows more")


def _show_facets(answers: Sequence[Found]) -> None:
    for answer in answers:
        for facet, counts in answer.facets.items():
            if counts:
                most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:12]
                counted = ", ".join(f"{value} ({count})" for value, count in most)
                render.show(f"{answer.source} {facet}: {counted}")
