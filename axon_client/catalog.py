# SPDX-License-Identifier: BUSL-1.1
"""Finding installed models: all of them, or the one a user means."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from axon_client import versions
from axon_client.models import InstalledModel
from axon_client.spec import PackageSpec, parse_name
from mlos_core.errors import InvalidInput, NotFound


def scan(models: Path) -> list[InstalledModel]:
    """Every model below the folder `models`, sorted by name.

    Identity comes from the path, so that a model with a damaged manifest is found too.
    """
    namespaces = _look(models)[1]
    packages = [package for namespace in namespaces for package in _look(namespace)[1]]
    found = [_at(path, models) for package in packages for path in model_folders(package)]
    return sorted((model for model in found if model), key=lambda model: str(model.spec))


def is_model(folder: Path) -> bool:
    """Whether a folder below `models` is a model's: those around it hold only folders."""
    return _look(folder)[0]


def model_folders(folder: Path) -> Iterator[Path]:
    """The folders of all models in `folder`, or `folder` itself if it is a model's."""
    found, children = _look(folder)
    if found:
        yield folder
        return
    for child in children:
        yield from model_folders(child)


def _look(folder: Path) -> tuple[bool, list[Path]]:
    """Whether a folder holds files, and the folders in it."""
    try:
        with os.scandir(folder) as entries:
            children = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return False, []  # it went, or was replaced, while others were looked at
    folders = [Path(child.path) for child in children if child.is_dir(follow_symlinks=False)]
    return len(folders) < len(children), folders


def _at(path: Path, models: Path) -> InstalledModel | None:
    parts = path.relative_to(models).parts
    if len(parts) < 3:
        return None
    return InstalledModel(PackageSpec(parts[0], "/".join(parts[1:-1]), parts[-1]), path)


def find(text: str, installed: Sequence[InstalledModel]) -> InstalledModel:
    """The installed model that `text` means; namespace and version may be left out.

    Raises:
        NotFound: none fits; names those with a similar name.
        InvalidInput: several fit.
    """
    wanted = parse_name(text)
    return _only(text, [m for m in installed if _fits(wanted, m.spec, text)], installed)


def find_newest(text: str, installed: Sequence[InstalledModel]) -> InstalledModel:
    """The installed model that `text` means, the highest of its versions if it names none.

    Versions that have no order, such as two commits of a hub, stay several.

    Raises:
        NotFound: none fits; names those with a similar name.
        InvalidInput: several fit.
    """
    wanted = parse_name(text)
    found = [model for model in installed if _fits(wanted, model.spec, text)]
    one = len({model.spec.title for model in found}) == 1
    return _only(text, _highest(found) if one else found, installed)


def _highest(found: Sequence[InstalledModel]) -> Sequence[InstalledModel]:
    """Those of the highest version, which is a stable one if any is; all if none has an order."""
    parsed = [(versions.parse(m.spec.version, m.spec.namespace), m) for m in found]
    known = [(version, model) for version, model in parsed if version]
    among = [pair for pair in known if not pair[0].prerelease] or known
    top = max((version.precedence for version, _ in among), default=None)
    return [model for version, model in among if version.precedence == top] or found


def _only(
    text: str, found: Sequence[InstalledModel], installed: Sequence[InstalledModel]
) -> InstalledModel:
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(str(model.spec) for model in found)
        raise InvalidInput(f"{text!r} fits several installed models", hint=f"name one: {choices}")
    raise NotFound(f"{text} is not installed", hint=_suggest(text, parse_name(text), installed))


def _fits(wanted: PackageSpec, spec: PackageSpec, text: str) -> bool:
    if wanted.version not in ("", spec.version):
        return False
    whole = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    # Without a namespace `org/model` may be a name of two segments.
    return whole in (f"{spec.namespace}/{spec.name}", spec.name)


def _suggest(text: str, wanted: PackageSpec, installed: Sequence[InstalledModel]) -> str:
    names: dict[str, str] = {}
    for model in installed:
        spec = model.spec
        for spelling in (spec.name, f"{spec.namespace}/{spec.name}", str(spec)):
            names[spelling] = str(spec)
    near = difflib.get_close_matches(text, names, n=1) or difflib.get_close_matches(
        wanted.name, names, n=1
    )
    if near:
        return f"did you mean {names[near[0]]}?"
    if wanted.namespace:
        return f"install it with 'axon install {text}'"
    return "'axon list' shows what is installed" if installed else "nothing is installed yet"
