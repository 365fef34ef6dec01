# SPDX-License-Identifier: BUSL-1.1
"""Writing a manifest's technical part from the files themselves.

What the author says wins over what is read. Where the two contradict each other, that is a
warning and no error: the files are what is run, the runtime takes the signature from them,
and to refuse a model that works for a wrong word about it would help nobody. Warnings stay
with the package, as the annotation `axon.warnings`. An error is what cannot work or must not
be: a file that is missing or another one, weights outside of the package, code in disguise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from axon_client import manifest as manifests
from axon_client import requirements, safety
from axon_client.contradictions import contradictions
from axon_client.formats import (
    FRAMEWORKS,
    PREFERENCE,
    SUFFIXES,
)
from axon_client.introspect import Header, read
from axon_client.introspect.hub_config import read_config
from axon_client.introspect.shards import shards_of
from axon_client.inventory import check_external, check_listed, find_models, list_files
from axon_client.licences import find_licence, licence_files
from axon_client.manifest import (
    IO,
    ExecutionFile,
    Facts,
    Format,
    Framework,
    Manifest,
    Metadata,
    ModelFile,
    Spec,
)
from axon_client.models import MAIN
from axon_client.progress import Progress, silent
from mlos_core.errors import InvalidInput, LoadFailed

_LONGEST_TEXT = 500
WARNINGS = "axon.warnings"
"""The annotation with what is doubtful about a package, one doubt a line."""


def complete(
    manifest: Manifest,
    folder: Path,
    progress: Progress = silent,
    known: Mapping[str, ModelFile] | None = None,
    *,
    allow_pickle: bool = False,
) -> Manifest:
    """Check what `manifest` says of the files in `folder` and fill in what it leaves out.

    Args:
        known: files whose digests are known already, by path; they are not hashed again.
        allow_pickle: take files that may run code when they are opened, and mark the package.

    Raises:
        InvalidInput: there is no model among the files, a listed file is missing, or one may
            run code and that is not allowed.
        IntegrityError: a file is not the one the manifest lists.
        LoadFailed: an ONNX file is none.
    """
    files = list_files(folder, progress, known)
    listed = manifest.spec.format.files
    if listed:
        check_listed(listed, files, manifest.title)
        files = listed
    unsafe = safety.unsafe_files(folder, [file.path for file in files])
    unsafe |= safety.code_named_by(manifest.spec)
    if not allow_pickle:
        safety.refuse(manifest.title, unsafe)
    models = manifest.spec.format.execution_files or find_models(
        manifest.metadata.name, folder, files
    )
    if not models:
        raise InvalidInput(
            f"{manifest.title} holds no model", hint="known suffixes: " + ", ".join(SUFFIXES)
        )
    contents = _Contents(folder, files, models, bool(unsafe))
    spec = contents.spec(manifest.spec)
    return manifests.new(contents.metadata(manifest), spec, manifest.distribution)


class _Contents:
    """What the files of a package say, beside what its author does."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[ModelFile],
        models: Sequence[ExecutionFile],
        pickled: bool,
    ) -> None:
        self._folder = folder
        self._files = files
        self._models = models
        self._pickled = pickled
        self._doubts: list[str] = []
        self._headers = {model.path: self._read(model) for model in models}
        self._chief = _chief(models)
        # Of several models of which none is the main one, no single one speaks for all.
        self._main = self._headers[self._chief.path] if self._chief.type == MAIN else Header()

    def _read(self, model: ExecutionFile) -> Header:
        """That a file cannot be read is no error: its plugin may know more of the format."""
        try:
            header = read(self._folder / model.path, model.format)
        except LoadFailed as error:
            self._doubts.append(f"{model.path}: nothing was read of it: {error.message}")
            return Header()
        check_external(self._folder, model.path, header.external)
        return header

    def spec(self, said: Spec) -> Spec:
        chief, header = self._chief, self._main
        return Spec(
            framework=said.framework if said.framework.name else _framework(chief, self._folder),
            format=Format(
                type=said.format.type or chief.format,
                execution_format=said.format.execution_format or chief.format,
                multi_encoder=said.format.multi_encoder,
                pickled=said.format.pickled or self._pickled,
                files=list(self._files),
                execution_files=list(self._models),
            ),
            model=facts(said.model, header),
            io=said.io if said.io.inputs or said.io.outputs else _plain_io(header.io),
            requirements=requirements.fill(said.requirements, self._estimate()),
            performance=said.performance,
            dependencies=said.dependencies,
        )

    def _estimate(self) -> requirements.Estimate:
        """Of the main model, or of all where none is: then they are the parts of a pipeline."""
        loaded = [model for model in self._models if model.type == MAIN] or self._models
        weights = [weights_of(one, self._headers[one.path], self._folder) for one in loaded]
        return requirements.estimate(weights, sum(file.size for file in self._files))

    def metadata(self, manifest: Manifest) -> Metadata:
        said, paths = manifest.metadata, [file.path for file in self._files]
        annotations = dict(said.annotations)
        doubts = self._doubts + contradictions(manifest, self._main)
        if doubts:
            annotations[WARNINGS] = "\n".join(map(_plain, doubts))
        return msgspec.structs.replace(
            said,
            license=said.license or _plain(self._main.license) or find_licence(self._folder, paths),
            license_files=said.license_files or licence_files(paths),
            annotations=annotations,
        )


def _chief(models: Sequence[ExecutionFile]) -> ExecutionFile:
    """The model that names the package's format: the main one, or the preferred format."""
    order = {format: rank for rank, format in enumerate(PREFERENCE)}
    return min(models, key=lambda m: (m.type != MAIN, order.get(m.format, len(order))))


def _framework(chief: ExecutionFile, folder: Path) -> Framework:
    """By format; safetensors beside a `config.json` with an architecture are transformers'."""
    if chief.format == "safetensors":
        told = read_config((folder / chief.path).parent)
        if told.architecture:
            return Framework("transformers", told.producer.partition(" ")[2])
    return Framework(FRAMEWORKS.get(chief.format, chief.format))


def facts(said: Facts, header: Header) -> Facts:
    """What the author says of the weights, and for the rest what their header says."""
    return Facts(
        parameters=said.parameters or header.parameters or 0,
        context_length=said.context_length or header.context_length,
        architecture=said.architecture or _plain(header.architecture),
        quantization=said.quantization or _plain(header.quantization),
    )


def _plain(text: str) -> str:
    """A text of a file, fit for a manifest: no control characters, and not endless."""
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_TEXT]).strip()


def _plain_io(io: IO) -> IO:
    """Names stay as they are, for they are what clients have to say."""
    sides = (
        [msgspec.structs.replace(spec, description=_plain(spec.description)) for spec in side]
        for side in (io.inputs, io.outputs)
    )
    return IO(*sides)


def weights_of(model: ExecutionFile, header: Header, folder: Path) -> requirements.Weights:
    """What is loaded of a model, from the folder of its package."""
    path = folder / model.path
    parts = [path.parent / name for name in header.external]
    try:
        parts += shards_of(path)
    except LoadFailed:
        parts.append(path)
    if model.format == "savedmodel":
        parts += list((path.parent / "variables").glob("variables.data-*"))
    size = sum(part.stat().st_size for part in parts if part.is_file())
    return requirements.Weights(model.format, header, size)
