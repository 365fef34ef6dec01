# SPDX-License-Identifier: BUSL-1.1
"""An opened model: configuration, tensors under canonical names, what text needs.

Nothing of a file is trusted: sizes and offsets were checked by the parsers, names and shapes
are checked here against the configuration. A file must not be cut while it is mapped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import gguf
from mlos_core.synapse.config import ModelConfig
from mlos_core.synapse.names import ROPE_FACTORS, needed, optional, unused

F32, F16, BF16 = 0, 1, 30
COMPUTED: Final = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30)
"""GGUF's numbers of the types that the engine computes with."""


class Tensor(NamedTuple):
    """A tensor in a file: `type` is GGUF's number; a vector has one row, and is float32."""

    name: str
    type: int
    rows: int
    columns: int
    data: memoryview


class TextFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What stands between text and tokens.

    For GGUF files, `metadata` has everything; Hugging Face folders have `tokenizer_file` (a
    tokenizer.json) and `tokenizer_config` (the object of tokenizer_config.json).
    """

    metadata: Mapping[str, Any] = MappingProxyType({})
    tokenizer_file: Path | None = None
    tokenizer_config: Mapping[str, Any] = MappingProxyType({})
    chat_template: str | None = None
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None


class ModelFiles:
    """An opened model; `close` gives the mappings back when the last array over them is gone."""

    def __init__(
        self,
        paths: tuple[Path, ...],
        config: ModelConfig,
        tensors: dict[str, Tensor],
        text: TextFiles,
    ) -> None:
        self.paths = paths
        self.config = config
        self.text = text
        self._tensors = tensors

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """By canonical name."""
        return MappingProxyType(self._tensors)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """GGUF's keys and values; nothing for Hugging Face folders."""
        return self.text.metadata

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text."""
        return self.text.bos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return self.text.eos_ids

    @property
    def pad_id(self) -> int | None:
        """The token that stands for none."""
        return self.text.pad_id

    @property
    def chat_template(self) -> str | None:
        """The template's source, if the model has one."""
        return self.text.chat_template

    @property
    def nbytes(self) -> int:
        """What the tensors take in the files."""
        return sum(tensor.data.nbytes for tensor in self._tensors.values())

    def close(self) -> None:
        """Forget the tensors; views that others made of them stay valid."""
        tensors, self._tensors = self._tensors, {}
        for tensor in tensors.values():
            with contextlib.suppress(BufferError):
                tensor.data.release()

    def __enter__(self) -> ModelFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def complete(config: ModelConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, if they are those of `config`, vectors as float32.

    Raises:
        LoadFailed: one is missing, has a wrong shape, or does not belong to the family.
        Unsupported: one has a type that the engine does not compute with.
    """
    wanted, allowed = needed(config), optional(config)
    if missing := wanted.keys() - tensors.keys():
        shown = ", ".join(sorted(missing)[:3])
        raise LoadFailed(f"{len(missing)} tensors are missing: {shown}")
    wanted |= allowed
    if more := tensors.keys() - wanted.keys() - {ROPE_FACTORS}:
        raise unused(more)
    return {
        name: _checked(tensor, wanted[name]) for name, tensor in tensors.items() if name in wanted
    }


def _checked(tensor: Tensor, shape: tuple[int, int]) -> Tensor:
    found = (tensor.rows, tensor.columns)
    if found != shape:
        raise LoadFailed(
            f"tensor {tensor.name} is {found[0]} x {found[1]} and not {shape[0]} x {shape[1]}"
        )
    if tensor.type not in COMPUTED:
        raise Unsupported(
            f"tensor {tensor.name} is of type {gguf.type_name(tensor.type)}",
            hint="this engine computes with " + ", ".join(map(gguf.type_name, COMPUTED)),
        )
    return tensor if shape[0] > 1 or tensor.type == F32 else as_float32(tensor)


def as_float32(tensor: Tensor, add: float = 0.0) -> Tensor:
    """A vector's copy in float32, plus `add`.

    Raises:
        Unsupported: it is not of a float type.
    """
    data = tensor.data
    if tensor.type == F32:
        values = np.frombuffer(data, np.float32)
    elif tensor.type == F16:
        values = np.frombuffer(data, np.float16).astype(np.float32)
    elif tensor.type == BF16:
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        raise Unsupported(f"the vector {tensor.name} is of type {gguf.type_name(tensor.type)}")
    values = values + np.float32(add)
    return tensor._replace(type=F32, data=memoryview(values.tobytes()))
