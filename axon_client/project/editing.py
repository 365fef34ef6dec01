# SPDX-License-Identifier: BUSL-1.1
"""Making and changing `axon.toml`, without touching what its owner wrote around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client.manifest import FILE_NAME as MANIFEST
from axon_client.manifest import Metadata
from axon_client.models import InstalledModel
from axon_client.outlook import compatible
from axon_client.project.locked import write
from axon_client.project.settings import FILE_NAME, Wish, decode
from axon_client.spec import PackageSpec, PathSpec, Spec
from mlos_core.errors import AlreadyExists, InvalidInput

AXON_YAML: Final = "axon.yaml"

_PROJECT: Final = """\
[project]
name = "{name}"
namespace = "{namespace}"
version = "{version}"

# The models this project works with: "namespace/name" = "^1.2", or
# {{ version = "~1.2", include = ["q8-0"] }}, {{ path = "models/digits" }},
# {{ url = "https://...", sha256 = "..." }}. `axon sync` installs them.
[models]
"""
_MODEL: Final = """\
apiVersion: axon.mlos.io/v1
kind: Model
metadata:
  namespace: "{namespace}"
  name: "{name}"
  version: "{version}"
  description: ""
  license: ""
# Files, formats, inputs and outputs are read from the model files beside this one.
# What it needs besides, with versions such as ns/name@^1.2:
# spec:
#   dependencies:
#     models: []
"""


def init(root: Path, name: str, namespace: str, version: str, *, model: bool) -> Path:
    """Write a new `axon.toml`, or the manifest of a package folder.

    Raises:
        AlreadyExists: there is one.
        InvalidInput: name, namespace or version cannot be a package's.
    """
    fields = {"name": name, "namespace": namespace, "version": version}
    try:
        msgspec.convert(fields, Metadata)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        raise InvalidInput(
            f"{field} {fields.get(field, '')!r} is not allowed",
            hint="letters, digits, '.', '_' and '-'; choose it with --name namespace/name",
        ) from error
    names = (AXON_YAML, MANIFEST) if model else (FILE_NAME,)
    for other in names:
        if (root / other).exists():
            raise AlreadyExists(f"{root / other} exists", hint="edit it, or remove it first")
    root.mkdir(parents=True, exist_ok=True)
    text = (_MODEL if model else _PROJECT).format_map(fields)
    path = root / names[0]
    with path.open("x") as file:
        file.write(text)
    return path


def wish_for(
    root: Path, asked: Spec, model: InstalledModel, include: list[str], pickles: bool
) -> Wish:
    """How to want again what was installed: a range around it unless more was said.

    Raises:
        InvalidInput: it was given another name, by which its source does not know it.
    """
    if isinstance(asked, PackageSpec):
        if asked.title != model.spec.title:
            raise InvalidInput(
                f"{asked.title} was installed as {model.spec.title}, which no source has",
                hint="leave out --as, or --save",
            )
        selector = asked.version or compatible(model.spec.version, model.spec.namespace)
        return Wish(selector, include=include, pickles=pickles)
    if isinstance(asked, PathSpec):
        path = Path(os.path.relpath(asked.path.absolute(), root)).as_posix()
        return Wish(path=path, pickles=pickles)
    return Wish(url=asked.url, sha256=asked.sha256, pickles=pickles)


def add(root: Path, wishes: dict[str, Wish]) -> bool:
    """Put wishes into a project's `axon.toml`; says whether that changed it.

    Raises:
        ConfigError: the file is damaged.
    """
    import tomlkit  # late: only who edits needs it

    path = root / FILE_NAME
    data = path.read_bytes()
    decode(data, root)
    document = tomlkit.parse(data.decode())
    if "models" not in document:
        document["models"] = tomlkit.table()
    models: Any = document["models"]
    for title, wish in wishes.items():
        values = msgspec.to_builtins(wish)
        if set(values) <= {"version"}:
            models[title] = wish.version
        else:
            table = tomlkit.inline_table()
            table.update(values)
            models[title] = table
    text = tomlkit.dumps(document).encode()
    decode(text, root)
    return write(path, text)
