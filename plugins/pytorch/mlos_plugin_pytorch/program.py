# SPDX-License-Identifier: BUSL-1.1
"""A model as every format presents itself: something to call, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from mlos_core.types import BYTES, TensorSpec
from mlos_plugin_pytorch.last import Last

Kind = Literal["tensor", "int", "float", "bool", "str"]
SCALARS: Final[Mapping[str, tuple[str, ...]]] = {
    "int": ("int64", "int32"),
    "float": ("float64", "float32"),
    "bool": ("bool",),
    "str": (BYTES,),
}
"""The dtypes that a client may send for a number or a text; the first is the usual one."""


class Argument(msgspec.Struct, frozen=True):
    """One argument of a model.

    `optional` ones have a default of the model's own. `shared` tells that the model is known
    to neither write into the tensor nor keep it, so that it may see the client's memory.
    """

    name: str
    kind: Kind = "tensor"
    optional: bool = False
    shared: bool = False


class Program(msgspec.Struct, frozen=True):
    """A loaded model, whatever it was loaded from.

    Args:
        title: how errors call it: the file's name.
        arguments: what it takes; None where it takes whatever names it is given.
        bind: `bind(names)` gives the function that takes these arguments in this order; a
            missing optional one is None.
        inputs: what the file itself says of the arguments, if it does.
        outputs: and of what comes back.
        said: the text in which it states `inputs` and `outputs`, if it came with one.
        sizes: sizes that the model is known to take, for inputs with unknown ones.
        may_batch: False if the file rules out that dimension 0 is a batch.
        reset: undoes what earlier calls left behind, before each call.
        cut: takes last operators out of the program, which the caller then has to run, by the
            name of their output. Called at most once, and only for a model on the CPU.
    """

    title: str
    arguments: tuple[Argument, ...] | None
    bind: Callable[[tuple[str, ...]], Callable[..., Any]]
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    said: Mapping[str, str] = {}
    sizes: Mapping[str, tuple[int, ...]] = {}
    may_batch: bool = True
    reset: Callable[[], Any] | None = None
    cut: Callable[[], Mapping[str, Last]] | None = None

    def argument(self, name: str) -> Argument | None:
        """The argument called `name`."""
        if self.arguments is None:
            return Argument(name)
        return next((one for one in self.arguments if one.name == name), None)


def by_name(call: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """`call` with the arguments called `names`, in that order; None leaves one out."""
    return lambda *values: call(
        **{name: value for name, value in zip(names, values, strict=True) if value is not None}
    )
