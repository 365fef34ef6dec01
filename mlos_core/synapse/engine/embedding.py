# SPDX-License-Identifier: BUSL-1.1
"""A text that becomes a vector: hidden states in, one event out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlos_core.smi import Event
from mlos_core.synapse.engine.sequence import Sequence


class Embedding:
    """One request of the task `embed`.

    Args:
        id: what its event names it by.
        sequence: the text; its `pooling` says what is kept of the states.
        normalize: make the vector one of length 1.
    """

    def __init__(self, id: int, sequence: Sequence, normalize: bool) -> None:
        self.id = id
        self.sequences = [sequence]
        self._normalize = normalize
        self._sum: npt.NDArray[np.float64] | None = None

    def add(self, states: npt.NDArray[np.float32], *, first: bool) -> None:
        """The (rows, hidden) states of the next chunk; `first`: it begins (again)."""
        if first or self._sum is None or self.sequences[0].pooling == "last":
            self._sum = np.zeros(states.shape[1])
        # Row by row: a sum over rows must not depend on how the text was cut into chunks.
        for row in states:
            self._sum += row

    def event(self) -> Event:
        """The answer."""
        size = self.sequences[0].length
        assert self._sum is not None
        vector = self._sum / (size if self.sequences[0].pooling == "mean" else 1)
        norm = float(np.sqrt(np.dot(vector, vector)))
        if self._normalize and norm > 0:
            vector = vector / norm
        usage = {"prompt_tokens": size, "completion_tokens": 0, "cached_tokens": 0}
        outputs = {"embedding": vector.astype(np.float32)}
        return Event(self.id, final=True, outputs=outputs, parameters={"usage": usage})
