# SPDX-License-Identifier: BUSL-1.1
"""Which files of a repository make the package. Pure: names in, names out.

A repository on a hub often holds one model many times: for several frameworks, and in many
quantizations. A package holds one of them, with the configuration, tokenizer and licence that
belong to it; the rest is named, so that the user can ask for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.adapters.base import Choice
from axon_client.errors import IntegrityError
from axon_client.formats import PICKLE, PREFERENCE, SAVED_MODEL, SUFFIXES, format_of, is_companion
from mlos_core.errors import InvalidInput, NotFound

PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
"""What runs code when it is opened. TorchScript shares two of the suffixes; only the contents
tell, so such a file is fetched and looked at if somebody asks for it by name."""
_MAY_BE_SAFE: Final = (".pt", ".pth")
_HARMLESS: Final = ("openvino", "ggml-")
_PAPERS: Final = re.compile(
    r"(readme|licen[cs]e|notice|copying|use_policy|acceptable_use)\b.*", re.I
)
_SKIPPED: Final = re.compile(r"(^|/)(\..*|__pycache__|runs|logs|checkpoint-\d+|original)(/|$)")
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
_SHOWN: Final = 30


class Chosen(msgspec.Struct, frozen=True):
    """The paths of the package's files, and what the user should know of the others."""

    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Unit(msgspec.Struct, frozen=True):
    """One model file with all its shards.

    Attributes:
        format: as in a manifest, or `pickle`.
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
        plain = _SHARD.sub("", path.stem)
        return {slug(text) for text in (str(path), path.name, path.stem, plain, self.variant)} - {
            ""
        }


def choose(paths: Sequence[str], choice: Choice, repo: str) -> Chosen:
    """The files that are taken.

    Raises:
        InvalidInput: there is no model, or only ones that run code when they are opened.
        NotFound: something that was asked for by name is not there.
        IntegrityError: a path leaves the repository.
    """
    for path in paths:
        if path.startswith("/") or ".." in path.split("/"):
            raise IntegrityError(f"{repo} has a file {path!r}", hint="no honest model has one")
    there = sorted(path for path in paths if not _SKIPPED.search(path) and path not in _RESERVED)
    units = list(_units(there))
    safe = [unit for unit in units if unit.format != PICKLE]
    allowed = units if choice.pickles else safe
    if choice.include:
        wanted, extra = _named(units, there, choice, repo)
        notes: tuple[str, ...] = ()
    elif safe:
        (wanted, notes), extra = _default(safe), ()
    elif allowed:
        (wanted, notes), extra = _default(allowed), ()
    else:
        raise _no_model(repo, units)
    taken = {path for unit in wanted for path in unit.paths}
    beside = [path for path in there if path not in taken and _belongs(path, taken, units)]
    return Chosen(tuple(sorted({*taken, *beside, *extra})), notes)


_RESERVED: Final = frozenset({manifests.FILE_NAME, "axon.yaml"})


def slug(text: str) -> str:
    """A spelling in which case and separators do not count: `Q4_K_M` is `q4-k-m`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _units(paths: Sequence[str]) -> Iterator[Unit]:
    shards: dict[str, list[str]] = {}
    for path in paths:
        if _format(_whole(path)):
            shards.setdefault(_whole(path), []).append(path)
    for whole, parts in shards.items():
        pure = PurePosixPath(whole)
        found = [*_VARIANT.findall(pure.stem), *_VARIANT.findall(pure.parent.name)]
        title = _VARIANT.sub("", pure.stem)
        folder = str(pure.parent.parent if _VARIANT.fullmatch(pure.parent.name) else pure.parent)
        format = _format(whole)
        folder = "." if folder == format else folder  # `onnx/model.onnx` is `model.onnx`
        yield Unit(format, f"{folder}/{slug(title)}", slug(found[0]) if found else "", tuple(parts))


def _format(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in PICKLED and not PurePosixPath(path).name.startswith(_HARMLESS):
        return PICKLE
    return format_of(path)


def _default(units: Sequence[Unit]) -> tuple[list[Unit], tuple[str, ...]]:
    """One format, and of each model in it one variant."""
    formats = sorted({unit.format for unit in units}, key=PREFERENCE.index)
    taken, notes = [], []
    models: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.format == formats[0]:
            models.setdefault(unit.model, []).append(unit)
    for variants in models.values():
        best = min(variants, key=_rank)
        taken.append(best)
        if len(variants) > 1:
            others = [unit.variant or unit.paths[0] for unit in variants if unit is not best]
            notes.append(f"took {best.paths[0]}; there are also {_listed(others)} (--include NAME)")
    if len(formats) > 1:
        notes.append(f"took the {formats[0]} files; --include {formats[1]} takes those instead")
    return taken, tuple(notes)


def _rank(unit: Unit) -> tuple[int, int, str]:
    known = _BEST.index(unit.variant) if unit.variant in _BEST else len(_BEST)
    return known, unit.paths[0].count("/"), unit.paths[0]


def _named(
    units: Sequence[Unit], paths: Sequence[str], choice: Choice, repo: str
) -> tuple[list[Unit], tuple[str, ...]]:
    """The models that were asked for, and other files that were."""
    taken: list[Unit] = []
    extra: list[str] = []
    for name in choice.include:
        found, others = _one(name, units, paths)
        if not found and not others:
            raise NotFound(f"{repo} has no {name!r}", hint=_near(name, units, paths))
        taken += [unit for unit in found if unit not in taken]
        extra += others
    pickled = [unit.paths[0] for unit in taken if unit.format == PICKLE]
    pickled = [path for path in pickled if not path.lower().endswith(_MAY_BE_SAFE)]
    if pickled and not choice.pickles:
        raise InvalidInput(
            f"{pickled[0]} is a pickle, which runs code when it is opened",
            hint="if you trust its author: --allow-pickle",
        )
    if not taken:
        raise InvalidInput(
            f"none of {', '.join(choice.include)} is a model", hint=_near("", units, paths)
        )
    return taken, tuple(extra)


def _one(
    name: str, units: Sequence[Unit], paths: Sequence[str]
) -> tuple[list[Unit], tuple[str, ...]]:
    formats = [unit for unit in units if unit.format == name]
    if formats:
        return _default(formats)[0], ()
    if any(character in name for character in "*?["):
        found = [unit for unit in units if any(fnmatchcase(path, name) for path in unit.paths)]
        inside = {path for unit in units for path in unit.paths}
        return found, tuple(p for p in paths if fnmatchcase(p, name) and p not in inside)
    exact = [unit for unit in units if name in unit.paths]
    found = exact or [unit for unit in units if slug(name) in unit.names]
    return found, () if found or name not in paths else (name,)


def _near(name: str, units: Sequence[Unit], paths: Sequence[str]) -> str:
    names = list(dict.fromkeys(unit.variant or unit.paths[0] for unit in units))
    near = difflib.get_close_matches(name, [*names, *paths], n=1) if name else []
    return f"did you mean {near[0]}?" if near else f"it has {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _belongs(path: str, taken: set[str], units: Sequence[Unit]) -> bool:
    """Whether a file that is no model goes with those that are taken."""
    pure = PurePosixPath(path)
    if any(path in unit.paths for unit in units):
        return False
    if any(_is_part(path, main) for main in taken):
        return True
    if str(pure.parent) not in {str(parent) for m in taken for parent in PurePosixPath(m).parents}:
        return False
    if path.endswith(".index.json"):  # lists the shards of one format
        return path.removesuffix(".index.json") in {_whole(main) for main in taken}
    if ".onnx_data" in path or ".onnx.data" in path:
        return False
    return is_companion(path) or bool(_PAPERS.fullmatch(pure.name))


def _is_part(path: str, main: str) -> bool:
    """Whether `path` is called like a part that the model `main` keeps outside of itself."""
    if main.endswith(SAVED_MODEL):
        return path.startswith(main.removesuffix(SAVED_MODEL)) and is_companion(path)
    if not main.endswith(".onnx"):
        return False
    beside = (f"{main}_data", f"{main}.data", f"{main.removesuffix('.onnx')}.data")
    return path.startswith(beside)


def _whole(path: str) -> str:
    """The name of the whole model that a shard is of."""
    pure = PurePosixPath(path)
    return str(pure.with_name(_SHARD.sub("", pure.stem) + pure.suffix))


def _no_model(repo: str, units: Sequence[Unit]) -> InvalidInput:
    if not units:
        return InvalidInput(f"{repo} holds no model", hint="known: " + ", ".join(SUFFIXES))
    return InvalidInput(
        f"{repo} has only pickled checkpoints ({units[0].paths[0]}), which run code when opened",
        hint="look for one with safetensors, or if you trust its author: --allow-pickle",
    )
