# SPDX-License-Identifier: BUSL-1.1
"""A new plugin, made of the files in `template`."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from mlos_core.errors import AlreadyExists, InvalidInput

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package_init.py": "$package/__init__.py",
    "plugin.py": "$package/plugin.py",
    "model.py": "$package/model.py",
    "test_plugin.py": "tests/test_plugin.py",
}


def write(name: str, path: Path | None) -> Path:
    """Write the plugin into `path` (default: mlos-plugin-NAME here), which must be new or empty.

    Raises:
        InvalidInput: `name` is none for a distribution.
        AlreadyExists: there is something in the folder.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no name for a plugin",
            hint="use small letters and digits, and dashes between them: my-framework",
        )
    folder = path or Path(f"mlos-plugin-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} exists", hint="give another folder with --path")
    for file, text in render(name).items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def render(name: str) -> dict[str, str]:
    """The files of a plugin by their place in its folder."""
    words = name.split("-")
    values = {
        "name": name,
        "package": "mlos_plugin_" + "_".join(words),
        "class_name": "".join(word.capitalize() for word in words),
    }
    templates = resources.files("mlos_core.cli") / "template"
    return {
        Template(place).substitute(values): Template(
            (templates / f"{source}.tmpl").read_text()
        ).substitute(values)
        for source, place in _FILES.items()
    } | {f"{values['package']}/py.typed": ""}
