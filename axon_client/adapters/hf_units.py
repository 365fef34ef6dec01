# SPDX-License-Identifier: BUSL-1.1
"""What the file names of a repository say: which are models, and variants of the same one.

Pure. Names are all there is before anything is fetched, and authors name as they like: what
is not recognized counts as a model of its own, and is taken rather than lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

import msgspec

from axon_client.formats import PICKLE, format_of

PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
"""What runs code when it is opened. TorchScript shares two of the suffixes; only the contents
tell, so such a file is fetched and looked at if somebody asks for it by name."""
_HARMLESS: Final = ("openvino", "ggml-")
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}$")
_VARIANT: Final = re.compile(
    r"(?:^|[-._])((?:ud-)?i?q\d(?:_[a-z0-9]+)*|tq\d_\d|mxfp4|bf16|fp?16|fp?32|fp8|q4f16|bnb4|u?int[48]"
    r"|qu?int8(?:_[a-z0-9]+)*|quantized|optimized|o[1-4]|(?:non_)?ema)(?=$|[-._])",
    re.I,
)
_BEST: Final = (
    "", "q4-k-m", "q5-k-m", "q4-k-s", "q4-0", "q5-k-s", "q6-k", "q8-0", "iq4-xs", "iq4-nl", "mxfp4",
    "q4-k-l", "q4-1", "q5-0", "q5-1", "q3-k-m", "bf16", "f16", "fp16", "f32", "fp32",
)  # fmt: skip
"""Where one model comes in several variants: which is taken unless the user chooses. Full
precision where that is the unnamed one, else what most people run."""


class Unit(msgspec.Struct, frozen=True):
    """One model file with all its shards.

    Attributes:
        format: as in a manifest.
        model: what it is a variant of: its folder and title, without the variant's name.
        variant: what tells it from the model's other variants; may be empty.
    """

    format: str
    model: str
    variant: str
    paths: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """What it may be called, as slugs."""
        path = PurePosixPath(self.paths[0])
        spelled = (str(path), path.name, path.stem, _SHARD.sub("", path.stem), self.variant)
        return {slug(text) for text in spelled} - {""}

    @property
    def folder(self) -> str:
        """Where it lies; `.` for the top."""
        return str(PurePosixPath(self.paths[0]).parent)


def slug(text: str) -> str:
    """A spelling in which case and separators do not count: `Q4_K_M` is `q4-k-m`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def whole(path: str) -> str:
    """The name of the whole model that a shard is of."""
    pure = PurePosixPath(path)
    return str(pure.with_name(_SHARD.sub("", pure.stem) + pure.suffix))


def units_of(paths: Sequence[str]) -> list[Unit]:
    """The models among the files of a repository."""
    shards: dict[str, list[str]] = {}
    for path in paths:
        if _format(whole(path)):
            shards.setdefault(whole(path), []).append(path)
    return [_unit(name, parts) for name, parts in shards.items()]


def _unit(name: str, parts: list[str]) -> Unit:
    pure, format = PurePosixPath(name), _format(name)
    found = [*_VARIANT.findall(pure.stem), *_VARIANT.findall(pure.parent.name)]
    folder = str(pure.parent.parent if _VARIANT.fullmatch(pure.parent.name) else pure.parent)
    folder = "." if folder == format else folder  # `onnx/model.onnx` is `model.onnx`
    title = slug(_VARIANT.sub("", pure.stem))
    return Unit(format, f"{folder}/{title}", slug(found[0]) if found else "", tuple(parts))


def _format(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.suffix.lower() in PICKLED and not pure.name.startswith(_HARMLESS):
        return PICKLE
    return format_of(path)


def models_of(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """The variants of each model, the best one first. What holds all of it again is left out."""
    folders: dict[str, set[str]] = {}
    models: dict[str, list[Unit]] = {}
    for unit in units:
        folders.setdefault(unit.folder, set()).add(unit.model)
        models.setdefault(unit.model, []).append(unit)
    for model, variants in models.items():
        again = model.rpartition("/")[2].startswith("consolidated")
        if not again or len(folders[variants[0].folder]) == 1:
            yield sorted(variants, key=_rank)


def _rank(unit: Unit) -> tuple[int, int, str]:
    known = _BEST.index(unit.variant) if unit.variant in _BEST else len(_BEST)
    return known, unit.paths[0].count("/"), unit.paths[0]
