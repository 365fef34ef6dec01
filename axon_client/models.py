# SPDX-License-Identifier: BUSL-1.1
"""An installed model: its identity, its folder, its manifest, its model files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from axon_client import manifest as manifests
from axon_client.formats import FRAMEWORKS, format_of
from axon_client.manifest import IO, ExecutionFile, Framework, Manifest
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, LoadFailed, NotFound

if TYPE_CHECKING:
    from axon_client.introspect import Header

MAIN = "main"


class InstalledModel:
    """One package in the store. Reading the manifest is put off until it is asked for.

    Args:
        spec: the complete `namespace/name@version`.
        path: the folder that holds `manifest.yaml` and the files.
        manifest: what is in that file, for whoever has just written it: another process may
            have removed the model meanwhile.
    """

    def __init__(self, spec: PackageSpec, path: Path, manifest: Manifest | None = None) -> None:
        self.spec = spec
        self.path = path
        if manifest:
            self.manifest = manifest

    def __repr__(self) -> str:
        return f"InstalledModel({str(self.spec)!r}, {str(self.path)!r})"

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            InvalidInput: it is missing, damaged, or names another package.
        """
        manifest = manifests.load(self.path / manifests.FILE_NAME)
        if manifest.title != str(self.spec):
            raise InvalidInput(f"the manifest in {self.path} is that of {manifest.title}")
        return manifest

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.manifest.spec.format.files)

    @property
    def models(self) -> list[ExecutionFile]:
        """The files that a plugin can load."""
        return execution_files(self.manifest)

    def choose(self, name: str | None = None) -> ExecutionFile:
        """The model called `name` (its path, file name or stem), or the main one.

        Raises:
            NotFound: no model has that name.
            InvalidInput: none was named and the package has several and no main one.
        """
        return choose(self.models, name, str(self.spec))

    def model_file(self, name: str | None = None) -> Path:
        """The path of the file `choose` finds."""
        return self.path / self.choose(name).path

    def io(self, name: str | None = None) -> IO:
        """Inputs and outputs of a model: the manifest's for the main one, else the file's.

        Empty for formats that do not say.

        Raises:
            LoadFailed: the file is not what its name says.
        """
        model = self.choose(name)
        described = self.manifest.spec.io
        if model.type == MAIN and (described.inputs or described.outputs):
            return described
        return self.header(name).io

    def header(self, name: str | None = None) -> Header:
        """What a model's file says of itself.

        Raises:
            LoadFailed: the file is not what its name says.
        """
        from axon_client.introspect import read  # only who asks for it needs the readers

        model = self.choose(name)
        return read(self.path / model.path, model.format)

    def manifest_for(self, name: str | None = None) -> dict[str, Any]:
        """The manifest as plain values, as if the chosen model were the only one.

        Whoever picks a plugin by it must not find the formats of the package's others.
        """
        model, whole = self.choose(name), self.manifest
        replace = msgspec.structs.replace
        form = replace(
            whole.spec.format,
            type=model.format if model.type != MAIN else whole.spec.format.type,
            execution_format=model.format,
            execution_files=[replace(model, type=MAIN)],
        )
        framework = whole.spec.framework
        if model.format != whole.spec.format.execution_format:
            framework = Framework(FRAMEWORKS.get(model.format, model.format))
        spec = replace(whole.spec, framework=framework, format=form, io=self._known_io(name))
        return replace(whole, spec=spec).as_dict()

    def _known_io(self, name: str | None) -> IO:
        """A file that cannot be read here may be one that its plugin understands."""
        try:
            return self.io(name)
        except LoadFailed:
            return IO()


def execution_files(manifest: Manifest) -> list[ExecutionFile]:
    """The manifest's models; without a list of them, every file of a known format."""
    format = manifest.spec.format
    if format.execution_files:
        return list(format.execution_files)
    found = [ExecutionFile(f.path, format_of(f.path)) for f in format.files if format_of(f.path)]
    if len(found) == 1:
        return [ExecutionFile(found[0].path, found[0].format, MAIN)]
    return found


def choose(models: Sequence[ExecutionFile], name: str | None, package: str) -> ExecutionFile:
    """See `InstalledModel.choose`."""
    if not models:
        known = ", ".join(FRAMEWORKS)
        raise NotFound(f"{package} holds no model in a known format", hint=f"known: {known}")
    if name is None:
        return _main(models, package)
    for spelled in (_path, _file_name, _stem):
        found = [model for model in models if spelled(model) == name]
        if len(found) == 1:
            return found[0]
        if found:
            choices = ", ".join(model.path for model in found)
            raise InvalidInput(f"{name!r} fits several files of {package}", hint=choices)
    raise NotFound(f"{package} has no model {name!r}", hint=_near(name, models))


def _main(models: Sequence[ExecutionFile], package: str) -> ExecutionFile:
    main = [model for model in models if model.type == MAIN]
    if len(main) == 1:
        return main[0]
    if len(models) == 1:
        return models[0]
    raise InvalidInput(
        f"{package} has {len(models)} models and none is the main one",
        hint="choose one with --file: " + ", ".join(model.path for model in models),
    )


def _path(model: ExecutionFile) -> str:
    return model.path


def _file_name(model: ExecutionFile) -> str:
    return PurePosixPath(model.path).name


def _stem(model: ExecutionFile) -> str:
    return PurePosixPath(model.path).stem


def _near(name: str, models: Sequence[ExecutionFile]) -> str:
    names = [model.path for model in models]
    near = difflib.get_close_matches(name, [*names, *map(_file_name, models)], n=1)
    return f"did you mean {near[0]}?" if near else "it has " + ", ".join(names)
