# SPDX-License-Identifier: BUSL-1.1
"""The contract of a `predict` method, read from its type hints."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args, get_origin

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.types import Signature
from mlos_plugin_python.hints import HOW, SCALARS, Hint, understand

PARAMETERS: Final = "parameters"
OUTPUT: Final = "output"
_STREAMS: Final = (
    collections.abc.Generator,
    collections.abc.Iterator,
    collections.abc.Iterable,
)


class Contract(msgspec.Struct, frozen=True):
    """What `predict` takes and gives.

    `outputs` are by name; `shape` says how `predict` returns them. A streaming `predict`
    whose return hint names no outputs, but yields scalars, has one: all that was yielded.
    """

    inputs: dict[str, Hint]
    optional: frozenset[str]
    outputs: dict[str, Hint]
    shape: typing.Literal["one", "tuple", "mapping", "fields", "yielded", "none"]
    batched: bool = False
    streaming: bool = False
    parameters: bool = False

    @property
    def signature(self) -> Signature:
        """The same for the rest of the system."""
        return Signature(
            tuple(h.spec(n, optional=n in self.optional) for n, h in self.inputs.items()),
            tuple(hint.spec(name) for name, hint in self.outputs.items()),
            batched=self.batched,
            streaming=self.streaming,
        )


def read_contract(kind: type) -> Contract:
    """The contract of the class's `predict`.

    Raises:
        LoadFailed: a hint is missing or says nothing that can be served; how to write it.
    """
    predict: Callable[..., Any] = getattr(kind, "predict")  # noqa: B009
    if inspect.iscoroutinefunction(predict) or inspect.isasyncgenfunction(predict):
        raise LoadFailed("predict is async", hint="write a plain `def predict`")
    try:
        hints = typing.get_type_hints(predict, include_extras=True)
    except Exception as err:
        raise LoadFailed(f"the hints of predict cannot be read: {err}", hint=HOW) from err
    inputs, optional, parameters = _inputs(predict, hints)
    streaming = inspect.isgeneratorfunction(predict)
    if "return" not in hints:
        raise LoadFailed("predict has no hint for what it returns", hint=HOW)
    outputs, shape = (_stream if streaming else _outputs)(hints["return"])
    batched = bool(getattr(kind, "batched", False))
    contract = Contract(inputs, optional, outputs, shape, batched, streaming, parameters)
    if batched:
        _check_batched(contract)
    return contract


# --- inputs -----------------------------------------------------------------------------------


def _inputs(
    predict: Callable[..., Any], hints: Mapping[str, Any]
) -> tuple[dict[str, Hint], frozenset[str], bool]:
    inputs: dict[str, Hint] = {}
    optional = set()
    takes_parameters = False
    for parameter in list(inspect.signature(predict).parameters.values())[1:]:
        name = parameter.name
        if parameter.kind is parameter.KEYWORD_ONLY and name == PARAMETERS:
            takes_parameters = True
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise LoadFailed(
                f"predict has the parameter {parameter}, which stands for no input",
                hint="give every input a name and a hint",
            )
        if name not in hints:
            raise LoadFailed(f"the parameter {name!r} of predict has no hint", hint=HOW)
        inputs[name] = understand(hints[name], f"the parameter {name!r} of predict")
        if parameter.default is not parameter.empty:
            optional.add(name)
    return inputs, frozenset(optional), takes_parameters


# --- outputs ----------------------------------------------------------------------------------


def _outputs(hint: Any) -> tuple[dict[str, Hint], Any]:
    fields = _fields(hint)
    if fields is not None:
        what = f"the field {{!r}} of {hint.__name__}"
        outputs = {name: understand(each, what.format(name)) for name, each in fields.items()}
        return outputs, "mapping" if typing.is_typeddict(hint) else "fields"
    if get_origin(hint) is tuple and get_args(hint) and Ellipsis not in get_args(hint):
        parts = enumerate(get_args(hint))
        named = {f"{OUTPUT}_{n}": understand(p, f"part {n} of predict's result") for n, p in parts}
        return named, "tuple"
    return {OUTPUT: understand(hint, "what predict returns")}, "one"


def _fields(hint: Any) -> dict[str, Any] | None:
    """The hints of a dataclass, a TypedDict or a NamedTuple; None if `hint` is none of them."""
    named_tuple = isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")
    data = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    if not (named_tuple or data or typing.is_typeddict(hint)):
        return None
    try:
        every = typing.get_type_hints(hint, include_extras=True)
    except Exception as err:
        raise LoadFailed(f"the hints of {hint.__name__} cannot be read: {err}", hint=HOW) from err
    names = [f.name for f in dataclasses.fields(hint)] if data else list(every)
    if not names:
        raise LoadFailed(f"{hint.__name__}, which predict returns, has no fields", hint=HOW)
    return {name: every[name] for name in names}


def _stream(hint: Any) -> tuple[dict[str, Hint], Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin not in _STREAMS or not arguments:
        raise LoadFailed(
            "predict yields, but its hint does not say what",
            hint="write -> Iterator[str], or Generator[str, None, R] where it returns an R",
        )
    if origin is collections.abc.Generator and arguments[-1] not in (None, type(None), Any):
        return _outputs(arguments[-1])
    if arguments[0] in SCALARS:
        return {OUTPUT: Hint("list", SCALARS[arguments[0]], (-1,), arguments[0])}, "yielded"
    return {}, "none"


# --- batches ----------------------------------------------------------------------------------


def _check_batched(contract: Contract) -> None:
    for what, there in (("parameters", contract.parameters), ("yield", contract.streaming)):
        if there:
            raise LoadFailed(
                f"the class is batched, but predict has {what!r}",
                hint="requests with parameters and streams are not joined: take batched away",
            )
    for name, hint in (*contract.inputs.items(), *contract.outputs.items()):
        if not hint.shape or hint.shape[0] >= 0:
            raise LoadFailed(
                f"the class is batched, but dimension 0 of {name!r} is not the batch",
                hint='hint it as list[...] or Annotated[np.ndarray, "float32[?, 3]"]',
            )
