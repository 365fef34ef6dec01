# SPDX-License-Identifier: BUSL-1.1
"""The model manifest, `apiVersion: axon.mlos.io/v1`, as strict types.

An unknown field, a path that leaves the package or a digest that is not 64 lower-case hex
digits is an error that names the field. Only identity is required; what a manifest does
not say is filled in at installation from the files themselves.

A field that this version does not know is refused even if a newer version might know it: it
may restrict what is done with the package, as `spec.format.pickled` does, and whoever skips
it does what its author forbade. What only informs has a place that every version reads and
keeps: `metadata.annotations`.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from axon_client import safe_yaml
from axon_client.manifest_problems import check_text, wrong_field
from axon_client.paths import clash
from axon_client.paths import path_problem as path_problem
from mlos_core.errors import InvalidInput

FILE_NAME = "manifest.yaml"
MAX_BYTES = 4 << 20

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Namespace = Annotated[str, msgspec.Meta(pattern=rf"^{_SEGMENT}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=rf"^{_SEGMENT}(/{_SEGMENT}){{0,7}}\Z")]
Version = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,127}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
Requirement = Annotated[
    str, msgspec.Meta(pattern=rf"^{_SEGMENT}(/{_SEGMENT}){{1,8}}(@[!-?A-~][ -?A-~]{{0,255}})?\Z")
]
"""A model that is needed: its name and, behind the `@`, which versions of it will do."""
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Author(_Part, frozen=True):
    """Who made the model."""

    name: str
    email: str = ""
    organization: str = ""


class Metadata(_Part, frozen=True):
    """Identity and description. `namespace/name@version` names the package.

    `license_files` are paths among the package's files. `annotations` are what tools note for
    each other; axon keeps them and acts on none.
    """

    name: Name
    namespace: Namespace
    version: Version
    description: str = ""
    authors: list[Author] = []
    license: str = ""
    homepage: str = ""
    documentation: str = ""
    license_files: list[FilePath] = []
    tags: list[str] = []
    annotations: dict[str, str] = {}
    created: datetime.datetime | None = None
    updated: datetime.datetime | None = None


class Framework(_Part, frozen=True):
    """The framework the model was made with."""

    name: str = ""
    version: str = ""


class ModelFile(_Part, frozen=True):
    """One file of the package: a relative POSIX path, its size in bytes, its digest."""

    path: FilePath
    size: Size
    sha256: Digest


class ExecutionFile(_Part, frozen=True):
    """One file that a plugin can load. `type` is `main` for the package's default model."""

    path: FilePath
    format: str
    type: str = "model"


class Format(_Part, frozen=True):
    """The files, and which of them are models.

    `pickled` says that opening one of them runs the code inside it: such a package is only
    installed and loaded where the user allows that.
    """

    type: str = ""
    execution_format: str = ""
    multi_encoder: str = ""
    pickled: bool = False
    files: list[ModelFile] = []
    execution_files: list[ExecutionFile] = []


class Facts(_Part, frozen=True):
    """What the weights themselves say. 0 or an empty text is unknown.

    `parameters` counts numbers, `context_length` tokens; `quantization` is the format's own
    name for it, such as Q4_K_M or int8.
    """

    parameters: Size = 0
    context_length: Size = 0
    architecture: str = ""
    quantization: str = ""


class Preprocessing(_Part, frozen=True):
    """What happens to an input before the model sees it."""

    type: str
    tokenizer: str = ""
    tokenizer_type: str = ""
    config: dict[str, Any] = {}


class IOSpec(_Part, frozen=True):
    """One input or output. `shape` has -1 where any size fits; None is an unknown rank."""

    name: str
    dtype: str
    shape: list[int] | None = None
    description: str = ""
    preprocessing: Preprocessing | None = None


class IO(_Part, frozen=True):
    """The inputs and outputs of the main model."""

    inputs: list[IOSpec] = []
    outputs: list[IOSpec] = []


class CPU(_Part, frozen=True):
    """Processor cores."""

    min_cores: Size = 0
    recommended_cores: Size = 0


class Space(_Part, frozen=True):
    """Memory or disk, in GB."""

    min_gb: Amount = 0
    recommended_gb: Amount = 0


class GPU(_Part, frozen=True):
    """An accelerator."""

    required: bool = False
    recommended: bool = False
    min_vram_gb: Amount = 0
    cuda_version: str = ""


class Compute(_Part, frozen=True):
    """What the model needs to run."""

    cpu: CPU = CPU()
    memory: Space = Space()
    gpu: GPU | None = None


class Requirements(_Part, frozen=True):
    """What the model needs of a machine. `estimated` if axon reckoned it from the files."""

    compute: Compute = Compute()
    storage: Space = Space()
    estimated: bool = False


class Performance(_Part, frozen=True):
    """What the author measured."""

    inference_time: dict[str, str] = {}
    throughput: dict[str, str] = {}
    accuracy: dict[str, float] = {}
    dataset: str = ""


class PackageDependency(_Part, frozen=True):
    """A Python package the model's users need."""

    name: str
    version: str = ""


class Dependencies(_Part, frozen=True):
    """Other models and packages."""

    models: list[Requirement] = []
    packages: list[PackageDependency] = []


class Spec(_Part, frozen=True):
    """Everything technical."""

    framework: Framework = Framework()
    format: Format = Format()
    model: Facts = Facts()
    io: IO = IO()
    requirements: Requirements = Requirements()
    performance: Performance = Performance()
    dependencies: Dependencies = Dependencies()


class Package(_Part, frozen=True):
    """The archive the files came from."""

    url: str = ""
    size: Size = 0
    sha256: Digest | Literal[""] = ""
    mirrors: list[str] = []


class Registry(_Part, frozen=True):
    """The registry that archive came from."""

    url: str = ""
    namespace: str = ""


class Distribution(_Part, frozen=True):
    """Where the package came from."""

    package: Package = Package()
    registry: Registry = Registry()


class Manifest(_Part, frozen=True, rename={"api_version": "apiVersion"}):
    """A whole manifest; `decode` and `load` give only checked ones."""

    api_version: Literal["axon.mlos.io/v1"]
    kind: Literal["Model"]
    metadata: Metadata
    spec: Spec = Spec()
    distribution: Distribution = Distribution()

    @property
    def title(self) -> str:
        """`namespace/name@version`."""
        return f"{self.metadata.namespace}/{self.metadata.name}@{self.metadata.version}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON and msgpack."""
        return as_dict(self)


def new(metadata: Metadata, spec: Spec, distribution: Distribution | None = None) -> Manifest:
    """A manifest of the current version, checked like one that was read.

    Raises:
        InvalidInput: a field's value is not allowed.
    """
    made = Manifest("axon.mlos.io/v1", "Model", metadata, spec, distribution or Distribution())
    return decode(encode(made), source=made.title)


def as_dict(part: _Part) -> dict[str, Any]:
    """Plain values, fit for JSON and msgpack."""
    built: dict[str, Any] = msgspec.to_builtins(part)
    return built


def encode(manifest: Manifest) -> bytes:
    """YAML, in the order of the fields."""
    return msgspec.yaml.encode(manifest)


def load(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        InvalidInput: it cannot be read or is not a manifest; names file and field.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    return decode(data, source=str(path))


def decode(data: bytes, *, source: str = "manifest") -> Manifest:
    """Parse YAML into a checked manifest.

    Raises:
        InvalidInput: names `source` and the field that is wrong.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{source} is larger than {MAX_BYTES >> 20} MiB: not a manifest")
    try:
        plain = safe_yaml.parse(data)
        check_text(plain, source)
        manifest = msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        raise wrong_field(source, str(error), Manifest) from error
    except ValueError as error:
        raise InvalidInput(f"{source} is not a valid manifest: {error}") from error
    _check_paths(manifest, source)
    return manifest


def _check_paths(manifest: Manifest, source: str) -> None:
    files = manifest.spec.format
    paths = [file.path for file in files.files]
    for index, path in enumerate(paths):
        problem = path_problem(path)
        if path == FILE_NAME:
            problem = "is reserved for the manifest"
        if problem:
            raise InvalidInput(f"{source}: spec.format.files[{index}].path: {path!r} {problem}")
    problem = clash(paths)
    if problem:
        raise InvalidInput(f"{source}: spec.format.files: {problem}")
    there = set(paths)
    for index, model in enumerate(files.execution_files):
        if model.path not in there:
            field = f"spec.format.execution_files[{index}].path"
            raise InvalidInput(f"{source}: {field}: {model.path!r} is not among spec.format.files")
    for index, path in enumerate(manifest.metadata.license_files):
        problem = path_problem(path) or ("" if path in there or not there else "is no file of it")
        if problem:
            raise InvalidInput(f"{source}: metadata.license_files[{index}]: {path!r} {problem}")
