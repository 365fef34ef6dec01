# SPDX-License-Identifier: BUSL-1.1
"""A loaded PyTorch model: the program, called with a request's arrays."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mlos_core.errors import ModelFailed
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import Array, Signature
from mlos_plugin_pytorch.blame import blamed
from mlos_plugin_pytorch.feed import feed_of
from mlos_plugin_pytorch.last import Last
from mlos_plugin_pytorch.notation import Stated
from mlos_plugin_pytorch.program import Program
from mlos_plugin_pytorch.results import deliver, named

log = logging.getLogger(__name__)


class Runner:
    """Calls a program with arrays, in inference mode, and says what went wrong.

    Args:
        program: what is called.
        inputs: the arguments it is called with, as the signature has them; one that a request
            may leave out has a default, or the program's own.
        device: where the program lies.
        copy_inputs: true if it shall get copies even of what it is known to only read.
    """

    def __init__(
        self, program: Program, inputs: Sequence[Stated], device: Any, copy_inputs: bool
    ) -> None:
        self._title = program.title
        self._reset = program.reset
        self._mode = torch.inference_mode()
        self._call = program.bind(tuple(one.spec.name for one in inputs))
        self._feeds = []
        for one in inputs:
            argument = program.argument(one.spec.name)
            assert argument is not None
            copied = copy_inputs or not argument.shared
            feed = feed_of(argument, device, copied=copied)
            self._feeds.append((one.spec.name, feed, one.default))

    def __call__(self, batch: Mapping[str, Array]) -> Any:
        """Whatever the program returns.

        Raises:
            InvalidInput: the program refuses these inputs.
            ModelFailed: it failed.
        """
        values = []
        for name, feed, default in self._feeds:
            array = batch.get(name)
            values.append(default if array is None else feed(array))
        try:
            with self._mode:
                if self._reset is not None:
                    self._reset()
                return self._call(*values)
        except Exception as err:
            raise blamed(err, self._title) from err

    def finish(self, last: Last, value: Any, out: Any) -> None:
        """Run an operator that was cut off the program, on what it returned."""
        try:
            with self._mode:
                last.run(value, out)
        except Exception as err:
            raise blamed(err, self._title) from err


class TorchModel(TensorModel):
    """A program with its signature.

    Args:
        runner: calls the program.
        signature: what it takes and gives.
        own: the names that the program itself has for its outputs, if they are known.
        lasts: operators that were cut off the program, by its own name of their output.
    """

    def __init__(
        self,
        runner: Runner,
        signature: Signature,
        own: Sequence[str] | None = None,
        lasts: Mapping[str, Last] | None = None,
    ) -> None:
        self.signature = signature
        self._run = runner
        self._names = [spec.name for spec in signature.outputs]
        self._dtypes = {spec.name: spec.dtype for spec in signature.outputs}
        self._own = self._names if own is None else own
        renamed = dict(zip(self._own, self._names, strict=True))
        self._lasts = {renamed[name]: last for name, last in (lasts or {}).items()}

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """All outputs, as torch computes them in process."""
        try:
            return self._infer(batch, allocate)
        except ModelFailed as err:
            log.error("%s", err.message, exc_info=err.__cause__)
            raise

    def _infer(self, batch: Mapping[str, Array], allocate: Allocate) -> dict[str, Array]:
        result = self._run(batch)
        if isinstance(result, torch.Tensor) and len(self._names) == 1:
            leaves = {self._names[0]: result}
        else:
            chosen = choose(named(result), self._own)
            leaves = dict(zip(self._names, chosen.values(), strict=True))
        return {name: self._deliver(name, leaf, allocate) for name, leaf in leaves.items()}

    def _deliver(self, name: str, leaf: Any, allocate: Allocate) -> Array:
        last = self._lasts.get(name)
        if last is None:
            return deliver(name, leaf, allocate)
        array = allocate(name, self._dtypes[name], last.shape(leaf))
        self._run.finish(last, leaf, torch.from_numpy(array))
        return array

    def close(self) -> None:
        """Drop the program, and the tensors that lie on clients' memory."""
        del self._run


def choose(returned: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The returned leaves that `names` ask for: by name, or else by place.

    Raises:
        ModelFailed: they are neither.
    """
    if all(name in returned for name in names):
        return {name: returned[name] for name in names}
    unnamed = all(name.partition("_")[0] == "output" for name in returned)
    if not unnamed or len(returned) != len(names):
        raise ModelFailed(
            f"the model returned {', '.join(returned) or 'nothing'}, not {', '.join(names)}",
            hint="list what it returns, in that order, with the option outputs",
        )
    return dict(zip(names, returned.values(), strict=True))
