# SPDX-License-Identifier: BUSL-1.1
"""Programs of `torch.export` (`.pt2`): their signature and weights, from the graph's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from axon_client.introspect.header import Header, Tally
from axon_client.introspect.zipped import Members, members_of
from axon_client.manifest import IO, IOSpec
from mlos_core.errors import LoadFailed

_MOST_PROGRAM: Final = 32 << 20
_DTYPES: Final = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
    33: "float8_e8m0", 34: "uint32", 35: "uint64",
}  # fmt: skip
_WEIGHTS: Final = ("parameter", "buffer", "tensor_constant")


def read_exported(path: Path) -> Header:
    """Read the header of an exported program.

    Raises:
        LoadFailed: it is none, or a package of compiled code.
    """
    with members_of(path, "an exported program") as members:
        data = members.read(_program(members, path.name), _MOST_PROGRAM)
    try:
        return _header(msgspec.json.decode(data, type=_Program))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise LoadFailed(f"{path.name}: its program cannot be read: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise LoadFailed(f"{path.name}: its program is not whole: {error!r}") from error


def _program(members: Members, title: str) -> str:
    inner = {name: name.partition("/")[2] or name for name in members.sizes}
    for name, below in inner.items():
        place = PurePosixPath(below)
        old = "serialized_exported_program.json" in (name, below)
        if old or (str(place.parent) == "models" and place.suffix == ".json"):
            return name
    if "archive_format" in inner.values():
        raise LoadFailed(
            f"{title} is a compiled package, which is machine code for one machine",
            hint="save the exported program itself, with torch.export.save",
        )
    raise LoadFailed(f"{title} holds no exported program")


class _Graph(msgspec.Struct):
    tensor_values: dict[str, dict[str, Any]]


class _Signature(msgspec.Struct):
    input_specs: list[dict[str, Any]]
    output_specs: list[dict[str, Any]]


class _Module(msgspec.Struct):
    graph: _Graph
    signature: _Signature
    module_call_graph: list[dict[str, Any]] = []


class _Program(msgspec.Struct):
    graph_module: _Module
    torch_version: str = ""


def _header(program: _Program) -> Header:
    module = program.graph_module
    values = module.graph.tensor_values
    tally = Tally()
    for spec in module.signature.input_specs:
        (kind, content), *_ = spec.items()
        if kind in _WEIGHTS:
            told = values[content["arg"]["name"]]
            tally.add(_dtype(told), _sizes(told))
    inputs = [_value(one["user_input"]["arg"], values) for one in _own(module, "input")]
    outputs = [_value(one["user_output"]["arg"], values) for one in _own(module, "output")]
    return Header(
        io=IO(_named(inputs, module.module_call_graph), outputs),
        parameters=tally.parameters,
        dtypes=tally.dtypes,
        weight_bytes=tally.bytes,
        producer=f"torch {program.torch_version}".strip() if program.torch_version else "",
    )


def _own(module: _Module, side: str) -> list[dict[str, Any]]:
    signature = module.signature
    specs = signature.input_specs if side == "input" else signature.output_specs
    return [spec for spec in specs if f"user_{side}" in spec]


def _named(inputs: list[IOSpec], calls: Sequence[Mapping[str, Any]]) -> list[IOSpec]:
    """The arguments' own names, where there are as many as inputs."""
    signature = calls[0].get("signature") if calls else None
    names = (signature or {}).get("forward_arg_names") or []
    if len(names) != len(inputs):
        return inputs
    return [
        msgspec.structs.replace(spec, name=str(name))
        for spec, name in zip(inputs, names, strict=True)
    ]


def _value(argument: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> IOSpec:
    (kind, content), *_ = argument.items()
    if kind == "as_tensor":
        told = values[content["name"]]
        return IOSpec(str(content["name"]), _dtype(told), _sizes(told))
    return IOSpec(kind.removeprefix("as_"), "unknown", None, "no tensor")


def _dtype(told: Mapping[str, Any]) -> str:
    return _DTYPES.get(told["dtype"], f"torch_{told['dtype']}")


def _sizes(told: Mapping[str, Any]) -> list[int]:
    """A size that is an expression may be anything, as far as is known here."""
    sizes = [side.get("as_int", -1) for side in told["sizes"]]
    return [int(side) if isinstance(side, int) and side >= 0 else -1 for side in sizes]
