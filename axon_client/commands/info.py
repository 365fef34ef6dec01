# SPDX-License-Identifier: BUSL-1.1
"""`axon info`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from axon_client import render
from axon_client.commands.options import installed_argument, json_option

_ANSWERS = {
    "yes": "this machine can run it",
    "no": "this machine cannot run it as it is",
    "unknown": "whether this machine can run it is not known",
}


@click.command()
@installed_argument
@click.option("--remote", is_flag=True, help="Ask the source, even if it is installed.")
@json_option
def info(spec: str, remote: bool, as_json: bool) -> None:
    """Show a package: its models, what they take and give, what they need and whether it is here.

    What is not installed is looked up at its source, and not fetched.
    """
    about = _gather(spec, remote)
    if as_json:
        render.show_json(about)
    else:
        render.show(*_page(about))


def _gather(text: str, remote: bool) -> dict[str, Any]:
    from axon_client import info as known
    from axon_client.adapters import adapter_for
    from axon_client.catalog import find_newest
    from axon_client.machine import this_machine
    from axon_client.models import InstalledModel
    from axon_client.spec import PathSpec, parse
    from axon_client.store import Store
    from mlos_core.errors import InvalidInput, NotFound

    store = Store()
    machine = this_machine(store.home)
    absent: NotFound | None = None
    if not remote:
        try:
            return known.about_installed(find_newest(text, store.installed()), machine)
        except NotFound as missing:
            absent = missing
    try:
        spec = parse(text)
    except InvalidInput as error:
        raise absent or error from None
    if isinstance(spec, PathSpec):
        return known.about_path(spec.path, machine)
    found = adapter_for(spec).resolve(spec)
    here = [one for one in store.installed() if one.spec == found.package]
    if here and not remote:
        return known.about_installed(InstalledModel(here[0].spec, here[0].path), machine)
    return known.about_remote(text, found, machine)


def _page(about: dict[str, Any]) -> Iterator[str]:
    yield from _facts(about)
    for model in about.get("models", []):
        yield from _model(model)
    for one in about.get("dependencies", {}).get("models", []):
        yield f"needs        {one}"
    if "models" not in about:
        yield "more is known once it is installed: its source keeps no manifest"
    if "runs_here" in about:
        yield ""
        yield from _fit(about)
    for warning in about.get("warnings", []):
        yield f"warning: {warning}"


def _facts(about: dict[str, Any]) -> Iterator[str]:
    framework = about.get("framework", {})
    files = about.get("files") or about.get("manifest", {}).get("spec", {}).get("format", {}).get(
        "files", []
    )
    facts = {
        "package": about["package"] + ("" if about["installed"] else "  (not installed)"),
        "yanked": about.get("yanked", ""),
        "description": about.get("description", ""),
        "license": about.get("license", ""),
        "homepage": about.get("homepage", ""),
        "authors": ", ".join(one["name"] for one in about.get("authors", [])),
        "tags": ", ".join(about.get("tags", [])),
        "source": about.get("source", ""),
        "path": about.get("path", ""),
        "size": f"{render.size(about['size'])} in {len(files)} files" if about["size"] >= 0 else "",
        "framework": " ".join(framework.values()),
        "architecture": about.get("architecture", ""),
        "parameters": count(about.get("parameters", 0)),
        "quantization": about.get("quantization", ""),
        "context": f"{about['context_length']} tokens" if about.get("context_length") else "",
        "pickled": "opening it runs the code inside" if about.get("pickled") else "",
    }
    for label, value in facts.items():
        if value:
            yield f"{label:12} {value}"


def _model(model: dict[str, Any]) -> Iterator[str]:
    main = " (main)" if model["type"] == "main" else ""
    yield ""
    yield f"{model['path']}  {model['format']}{main}"
    dtypes = ", ".join(f"{count(n)} {dtype}" for dtype, n in model.get("dtypes", {}).items())
    opsets = ", ".join(f"{name} {number}" for name, number in model.get("opsets", {}).items())
    facts = {
        "weights": dtypes,
        "made by": model.get("producer", ""),
        "opsets": opsets,
        "chat": "has a chat template" if model.get("chat_template") else "",
        "code": model.get("custom_code", ""),
        "loaded by": _plugin(model.get("plugin")),
        "error": model.get("error", ""),
    }
    yield from (f"  {label:10} {value}" for label, value in facts.items() if value)
    for side in ("inputs", "outputs"):
        for spec in model[side]:
            yield f"  {side[:-1]:10} {spec['name']}: {tensor(spec)}"
    yield from (f"  {'not known':10} {reason}" for reason in model.get("unknown", []))


def _plugin(plugin: dict[str, Any] | None) -> str:
    if plugin is None:
        return "no plugin that axon knows"
    there = "" if plugin["installed"] else f", not installed: pip install {plugin['package']}"
    return f"the plugin {plugin['name']}{there}"


def _fit(about: dict[str, Any]) -> Iterator[str]:
    answer = about["runs_here"]
    kind = " (needs are estimated)" if about["requirements"].get("estimated") else ""
    yield f"{_ANSWERS[answer['answer']]}{kind}"
    for check in answer["checks"]:
        mark = {True: "ok", False: "NO", None: "-"}[check["ok"]]
        line = f"  {mark:3} {check['what']:15} {check['needed']}; {check['available']}"
        yield line
        if check["arithmetic"]:
            yield f"      {'':15} = {check['arithmetic']}"


def count(number: int | None) -> str:
    """`134.5 million`, as people say it; empty for nothing."""
    for size, word in ((10**9, " billion"), (10**6, " million")):
        if number and number >= size:
            return f"{number / size:.4g}{word}"
    return str(number) if number else ""


def tensor(spec: dict[str, Any]) -> str:
    """`float32[?, 3, 224, 224]`."""
    shape = spec.get("shape")
    if shape is None:
        return f"{spec['dtype']}[...]"
    return f"{spec['dtype']}[{', '.join('?' if side < 0 else str(side) for side in shape)}]"
