# SPDX-License-Identifier: BUSL-1.1
"""Importing a model's own files, and finding the class in them.

The folder becomes a package of its own name in `sys.modules`, so that `from .helper import x`
works and two models never meet; it goes onto `sys.path` too, for a plain `import helper`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from mlos_core.errors import LoadFailed
from mlos_plugin_python.blame import not_loaded

FILE: Final = "model.py"
_PREFIX: Final = "mlos_model_"
_folders: set[Path] = set()
"""Where models were loaded from."""
_SHOW: Final = "class Model:\n    def predict(self, x: float) -> float:\n        return 2 * x"


def find_file(path: Path) -> Path:
    """The model's file: `path` itself, or the `model.py` in it.

    Raises:
        LoadFailed: there is none.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise LoadFailed(f"there is no {file}", hint=f"name a folder that holds a {FILE}")
    if file.suffix != ".py":
        raise LoadFailed(f"{file} is no Python file", hint=f"name a folder that holds a {FILE}")
    # The folder's own name, but the file's as it is: a link may lead to one called otherwise.
    return file.parent.resolve() / file.name


def load_module(file: Path) -> ModuleType:
    """Import the model's file as a module of a package that is its folder.

    Raises:
        LoadFailed: it cannot be imported; which line, and why.
    """
    package = _package_name(file)
    forget(file)
    _evict_namesakes(file.parent)
    sys.path.insert(0, str(file.parent))
    with _no_bytecode():
        try:
            importlib.invalidate_caches()
            _make_package(package, file.parent)
            spec = importlib.util.spec_from_file_location(f"{package}.{file.stem}", file)
            if spec is None or spec.loader is None:
                raise LoadFailed(f"{file} cannot be imported")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return module
        except BaseException as err:
            forget(file)
            raise not_loaded(err, file.parent, file.name) from err


def forget(file: Path) -> None:
    """Take the model's modules, and its folder, out of the interpreter."""
    package = _package_name(file)
    for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
        del sys.modules[name]
    with contextlib.suppress(ValueError):
        sys.path.remove(str(file.parent))


def _package_name(file: Path) -> str:
    return _PREFIX + hashlib.blake2b(str(file).encode(), digest_size=8).hexdigest()


def _make_package(name: str, folder: Path) -> None:
    init = folder / "__init__.py"
    if init.is_file():
        spec = importlib.util.spec_from_file_location(
            name, init, submodule_search_locations=[str(folder)]
        )
    else:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    if spec.loader is not None:
        spec.loader.exec_module(package)


def _evict_namesakes(folder: Path) -> None:
    """A `helper` of another model must not be taken for this one's. Whoever has it keeps it."""
    mine = {path.stem for path in folder.iterdir()}
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name.partition(".")[0] in mine and origin and _folders & {*Path(origin).parents}:
            del sys.modules[name]
    _folders.add(folder)


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """A model's folder may be a package whose digests are known: nothing is written there."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def find_class(module: ModuleType, wanted: str) -> type:
    """The class with `predict`: the one called `wanted`, the only one, or `Model`.

    Raises:
        LoadFailed: there is none, or the choice is open.
    """
    file = Path(str(module.__file__)).name
    found = {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and callable(getattr(kind, "predict", None))
    }
    if wanted:
        if wanted not in found:
            names = ", ".join(found) or "no class"
            raise LoadFailed(
                f"{file} has no class {wanted!r} with a predict method",
                hint=f"{names} has one; see the option cls",
            )
        return found[wanted]
    if not found:
        raise LoadFailed(f"{file} has no class with a predict method", hint=f"write\n{_SHOW}")
    if len(found) == 1:
        return next(iter(found.values()))
    if "Model" in found:
        return found["Model"]
    raise LoadFailed(
        f"{file} has several classes with a predict method: {', '.join(found)}",
        hint="call one of them Model, or name it with --option cls=NAME",
    )
