# SPDX-License-Identifier: BUSL-1.1
"""`axon install`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from axon_client import render
from axon_client.commands.options import json_option
from axon_client.installer import Installed, InstallOptions, install_all
from axon_client.spec import parse, parse_name

FORMATS = ("auto", "pytorch", "onnx", "gguf", "native")


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option(
    "-f", "--format", type=click.Choice(FORMATS), default="auto", help="It must have a model in it."
)
@click.option(
    "--include", metavar="FILE", multiple=True, help="Only these model files, if it has several."
)
@click.option("--replace", is_flag=True, help="Put it in the place of what is installed.")
@click.option("--as", "name", metavar="SPEC", help="Install it as namespace/name@version.")
@click.option("--no-deps", is_flag=True, help="Not what it depends on.")
@click.option("--offline", is_flag=True, help="Ask nobody; what is installed has to do.")
@click.option("--allow-pickle", is_flag=True, help="Take files that run code when they are opened.")
@click.option("--register", is_flag=True, help="Hand it to the daemon afterwards.")
@click.option("--save", is_flag=True, help="Add it to the project's axon.toml.")
@json_option
def install(
    specs: Sequence[str],
    format: str,
    include: Sequence[str],
    replace: bool,
    name: str | None,
    no_deps: bool,
    offline: bool,
    allow_pickle: bool,
    register: bool,
    save: bool,
    as_json: bool,
) -> None:
    """Install packages: namespace/name[@version], a folder, a model file, or a URL.

    A version may be exact (1.0.3), a range (^1.2, ~1.2, ">=1,<3"), a tag (latest) or a
    digest (sha256:...). What is installed already and fits is left as it is.
    """
    wanted = [parse(spec) for spec in dict.fromkeys(specs)]
    options = InstallOptions(
        replace=replace,
        rename=parse_name(name) if name else None,
        offline=offline,
        allow_pickle=allow_pickle,
        dependencies=not no_deps,
        format=format,
        include=tuple(include),
    )
    root = _project() if save else None
    if offline:
        os.environ["AXON_OFFLINE"] = "1"  # whatever else a source asks is refused as well
    with render.progress_bars(not as_json) as progress:
        done = install_all(wanted, progress=progress, options=options)
    if root:
        _save(root, done, options)
    answers = _register(done) if register else {}
    if as_json:
        _show_json(done, answers, len(wanted) > 1)
        return
    for one in done:
        _show(one, answers.get(str(one.model.spec)), registering=register)
    if root:
        render.show(f"added to {root / 'axon.toml'} and locked")


def _project() -> Path:
    from axon_client.project.settings import require

    return require().root


def _save(root: Path, done: Sequence[Installed], options: InstallOptions) -> None:
    """Add what was asked for to `axon.toml`, and lock it."""
    from axon_client.commands.project import save

    asked = [(one.asked, one.model) for one in done if one.asked]
    save(root, asked, options.include, options.allow_pickle)


def _register(done: Sequence[Installed]) -> dict[str, Any]:
    """Hand what was asked for to the daemon; its answers by package."""
    from axon_client.register import connect_to
    from axon_client.register import register as register_model

    models = [one.model for one in done if one.wanted]
    return {
        str(model.spec): register_model(model, lambda: connect_to(None), replace=True)
        for model in models
    }


def _about(one: Installed, answers: dict[str, Any]) -> dict[str, Any]:
    about = render.summary(one.model) | {"fresh": one.fresh, "notes": list(one.notes)}
    answer = answers.get(str(one.model.spec))
    return about | ({"registered": answer} if answer is not None else {})


def _show_json(done: Sequence[Installed], answers: dict[str, Any], several: bool) -> None:
    """One package as an object that has its dependencies, several as a list of all."""
    if several:
        render.show_json([_about(one, answers) | {"wanted": one.wanted} for one in done])
        return
    (asked,) = (one for one in done if one.wanted)
    others = [_about(one, answers) for one in done if not one.wanted]
    render.show_json(_about(asked, answers) | {"dependencies": others})


def _show(one: Installed, answer: dict[str, Any] | None, registering: bool) -> None:
    for note in one.notes:
        render.warn(note)
    verb = "installed" if one.fresh else "already installed"
    render.show(f"{verb} {one.model.spec}", f"  in {one.model.path}")
    if answer is not None:
        render.show(f"  registered as {answer.get('name')}: {answer.get('state', 'registered')}")
    elif one.wanted and not registering:
        _show_next(one)


def _show_next(one: Installed) -> None:
    model = one.model
    main = [file.path for file in model.models if file.type == "main"]
    if main or len(model.models) == 1:
        render.show(f"register it with: axon register {model.spec}")
    else:
        names = ", ".join(file.path for file in model.models)
        render.show(f"it has several models: {names}")
        render.show(f"register one with: axon register {model.spec} --file FILE --name NAME")
