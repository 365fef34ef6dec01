# SPDX-License-Identifier: BUSL-1.1
"""Which files of a repository make the package. Pure: names in, names out.

A repository on a hub often holds one model many times: for several frameworks, and in many
quantizations. A package holds one of them, with the configuration, tokenizer and licence that
belong to it; the rest is named, so that the user can ask for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

import msgspec

from axon_client import manifest as manifests
from axon_client.adapters.base import Choice
from axon_client.adapters.hf_units import Unit, models_of, slug, units_of, whole
from axon_client.errors import IntegrityError
from axon_client.formats import FRAMEWORKS, PICKLE, PREFERENCE, SAVED_MODEL, SUFFIXES, is_companion
from mlos_core.errors import InvalidInput, NotFound

PIPELINE: Final = "model_index.json"
"""Says that the folders hold the parts of one pipeline; models beside it repeat them."""
_MAY_BE_SAFE: Final = (".pt", ".pth")
_RESERVED: Final = frozenset({manifests.FILE_NAME, "axon.yaml"})
_PAPERS: Final = re.compile(
    r"(readme|licen[cs]e|notice|copying|use_policy|acceptable_use)\b.*", re.I
)
_SKIPPED: Final = re.compile(r"(^|/)(\..*|__pycache__|runs|logs|checkpoint-\d+|original)(/|$)")
_MODULE: Final = re.compile(r"\d+_[A-Za-z]+")
"""The folders of sentence-transformers: `1_Pooling/config.json` goes with every format."""
_SHOWN: Final = 30
_SEARCHED: Final = 2000


class Chosen(msgspec.Struct, frozen=True):
    """The paths of the package's files, and what the user should know of the others."""

    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()


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
    units = units_of(there)
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if choice.include:
        wanted, extra = _named(units, there, choice, repo)
    else:
        safe = [unit for unit in units if unit.format != PICKLE]
        allowed = safe or (units if choice.pickles else [])
        if not allowed:
            raise _no_model(repo, units)
        wanted, notes = _default(allowed, PIPELINE in there)
    beside = _companions(there, wanted, units)
    taken = {path for unit in wanted for path in unit.paths}
    return Chosen(tuple(sorted({*taken, *beside, *extra})), notes)


def _default(units: Sequence[Unit], pipeline: bool) -> tuple[list[Unit], tuple[str, ...]]:
    """One format, and of each model in it one variant."""
    formats = sorted({unit.format for unit in units}, key=PREFERENCE.index)
    of_format = [unit for unit in units if unit.format == formats[0]]
    parts = [unit for unit in of_format if unit.folder != "."] if pipeline else []
    taken, notes = [], []
    for best, *others in models_of(parts or of_format):
        taken.append(best)
        if others:
            named = _listed([unit.variant or unit.paths[0] for unit in others])
            notes.append(f"took {best.paths[0]}; there are also {named} (--include NAME)")
    if len(formats) > 1:
        notes.append(f"took the {formats[0]} files; --include {formats[1]} takes those instead")
    return taken, tuple(notes)


# --- what the user asks for -----------------------------------------------------------


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
    of_framework = [unit for unit in units if FRAMEWORKS[unit.format] == name]
    if formats or of_framework:
        return _default(formats or of_framework, PIPELINE in paths)[0], ()
    if any(character in name for character in "*?["):
        found = [unit for unit in units if any(fnmatchcase(path, name) for path in unit.paths)]
        inside = {path for unit in units for path in unit.paths}
        return found, tuple(p for p in paths if fnmatchcase(p, name) and p not in inside)
    exact = [unit for unit in units if name in unit.paths]
    found = exact or [unit for unit in units if slug(name) in unit.names]
    return found, () if found or name not in paths else (name,)


def _near(name: str, units: Sequence[Unit], paths: Sequence[str]) -> str:
    names = list(dict.fromkeys(unit.variant or unit.paths[0] for unit in units))
    known = [*names, *paths][:_SEARCHED]
    near = difflib.get_close_matches(name, known, n=1) if name else []
    return f"did you mean {near[0]}?" if near else f"it has {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# --- what belongs to a model ----------------------------------------------------------


def _companions(paths: Sequence[str], wanted: Sequence[Unit], units: Sequence[Unit]) -> list[str]:
    """The files that are no models and go with those that are taken."""
    weights = {path for unit in units for path in unit.paths}
    mains = {path for unit in wanted for path in unit.paths}
    wholes = {whole(path) for path in mains}
    folders = {str(parent) for path in mains for parent in PurePosixPath(path).parents}
    if PIPELINE in paths:
        homes = {unit.folder for unit in units}
        folders |= {str(PurePosixPath(path).parent) for path in paths} - homes
    return [
        path
        for path in paths
        if path not in weights and (_goes_along(path, folders, wholes) or _is_part(path, mains))
    ]


def _goes_along(path: str, folders: set[str], wholes: set[str]) -> bool:
    pure = PurePosixPath(path)
    if str(pure.parent) not in folders and not _MODULE.fullmatch(str(pure.parent)):
        return False
    if path.endswith(".index.json"):  # lists the shards of one format
        return path.removesuffix(".index.json") in wholes
    if ".onnx_data" in path or ".onnx.data" in path:
        return False
    return is_companion(path) or bool(_PAPERS.fullmatch(pure.name))


def _is_part(path: str, mains: set[str]) -> bool:
    """Whether `path` is called like a part that a model keeps outside of its own file."""
    parts = re.match(r"(.*?\.onnx)(?:_data|\.data)", path) or re.match(r"(.*)\.data", path)
    if parts and {parts[1], f"{parts[1]}.onnx"} & mains:
        return True
    above = [f"{parent}/{SAVED_MODEL}" for parent in PurePosixPath(path).parents]
    return is_companion(path) and not {main.removeprefix("./") for main in above}.isdisjoint(mains)


def _no_model(repo: str, units: Sequence[Unit]) -> InvalidInput:
    if not units:
        return InvalidInput(f"{repo} holds no model", hint="known: " + ", ".join(SUFFIXES))
    return InvalidInput(
        f"{repo} has only pickled checkpoints ({units[0].paths[0]}), which run code when opened",
        hint="look for one with safetensors, or if you trust its author: --allow-pickle",
    )
