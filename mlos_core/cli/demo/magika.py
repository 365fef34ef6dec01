# SPDX-License-Identifier: BUSL-1.1
"""What magika's model wants to see of a file, and what its answer means.

The model sees the first and the last bytes of a file, less the white space around them, as
2048 numbers: a byte's value, or `padding_token` where the file is too short. The numbers of
all this are in the `config.min.json` beside the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from mlos_core.errors import Unsupported
from mlos_core.types import Array


class ModelConfig(msgspec.Struct, frozen=True):
    """The model's own description."""

    beg_size: int
    end_size: int
    block_size: int
    padding_token: int
    min_file_size_for_dl: int
    medium_confidence_threshold: float
    target_labels_space: tuple[str, ...]
    thresholds: dict[str, float] = {}
    overwrite_map: dict[str, str] = {}
    mid_size: int = 0
    use_inputs_at_offsets: bool = False


class Verdict(NamedTuple):
    """A file's type. `score` is the model's confidence; 1 where it was not asked."""

    label: str
    score: float


def read_config(model: Path) -> ModelConfig:
    """The description that lies in the model's folder.

    Raises:
        Unsupported: it is missing, or describes features this code does not make.
    """
    path = model.with_name("config.min.json")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=ModelConfig)
    except (OSError, msgspec.MsgspecError) as err:
        raise Unsupported(f"{path.name} beside magika's model cannot be read: {err}") from err
    if config.mid_size or config.use_inputs_at_offsets:
        raise Unsupported("this version of magika looks at the middle of files as well")
    return config


def features(path: Path, config: ModelConfig) -> Array | Verdict:
    """What the model wants: int32[1, beg_size + end_size]; or a verdict that needs no model.

    Raises:
        OSError: the file cannot be read.
    """
    head, tail = _ends(path, config.block_size)
    if not head:
        return Verdict("empty", 1.0)
    if len(head.lstrip()) < config.min_file_size_for_dl:
        return Verdict("txt" if _is_text(head) else "unknown", 1.0)
    row = np.full((1, config.beg_size + config.end_size), config.padding_token, np.int32)
    start = np.frombuffer(head.lstrip()[: config.beg_size], np.uint8)
    row[0, : len(start)] = start
    end = np.frombuffer(tail.rstrip()[-config.end_size :], np.uint8)
    row[0, row.shape[1] - len(end) :] = end
    return row


def _ends(path: Path, block: int) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        head = file.read(block)
        size = file.seek(0, 2)
        file.seek(max(0, size - block))
        return head, file.read(block)


def verdict(scores: Array, config: ModelConfig, *, text: bool) -> Verdict:
    """What the model's answer (float32[1, labels]) means.

    Args:
        text: whether the file looks like text: what is said when the model is unsure.
    """
    best = int(scores[0].argmax())
    label, score = config.target_labels_space[best], float(scores[0, best])
    if score < config.thresholds.get(label, config.medium_confidence_threshold):
        return Verdict("txt" if text else "unknown", score)
    return Verdict(config.overwrite_map.get(label, label), score)


def looks_like_text(path: Path, config: ModelConfig) -> bool:
    """Whether the beginning of the file is UTF-8."""
    return _is_text(_ends(path, config.block_size)[0])


def _is_text(data: bytes) -> bool:
    try:
        # The block may end inside a character.
        data.decode("utf-8") if len(data) < 4 else data[:-3].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data
