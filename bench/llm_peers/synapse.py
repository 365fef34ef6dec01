# SPDX-License-Identifier: BUSL-1.1
"""Synapse: the executor alone, as the engine calls it, without scheduler and sampler.

The arrays of a step are made before the clock starts; what is timed is `forward` alone.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from llm_peers.peer import Job, Peer, Tokens
from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import ISAS, choose_isa
from mlos_core.synapse.text import TextModel
from mlos_core.synapse.weights import open_model


class Synapse(Peer):
    """One executor for all cases."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.isa = choose_isa()
        options: dict[str, Any] = dict(job.options)
        if "cache_dir" in options:
            options["cache_dir"] = Path(options["cache_dir"])
        with open_model(Path(job.model)) as files:
            self.text = TextModel(files)  # llama.cpp reads its vocabulary with the model, too
            self.executor = Executor(
                files,
                threads=job.threads,
                isa=self.isa,
                kv_blocks=-(-job.context // Executor.block_size),
                **options,
            )
        self.blocks = np.arange(self.executor.kv_blocks, dtype=np.int32)

    def about(self) -> dict[str, str]:
        """Version and instruction set."""
        name = next(name for name, number in ISAS.items() if number == self.isa)
        return {"mlos-core": importlib.metadata.version("mlos-core"), "info": name}

    def begin(self, streams: int) -> None:
        """Each stream has its share of the blocks; what was in them is written over."""
        each = len(self.blocks) // streams
        self.tables = self.blocks[: each * streams].reshape(streams, each)

    def prefill(self, streams: int, prompt: Tokens) -> None:
        """All streams in one call."""
        count = len(prompt)
        self.executor.forward(
            np.tile(prompt, streams),
            np.tile(np.arange(count, dtype=np.int32), streams),
            np.repeat(np.arange(streams, dtype=np.int32), count),
            self.tables,
            np.empty(0, np.int32),
        )

    def time_prefill(self, prompt: Tokens) -> int:
        """One stream, the last token's logits."""
        return self._timed(
            prompt,
            np.arange(len(prompt), dtype=np.int32),
            np.zeros(len(prompt), np.int32),
            self.tables,
            np.array([len(prompt) - 1], np.int32),
        )

    def time_step(self, following: Tokens, position: int) -> int:
        """A token for each stream."""
        rows = np.arange(len(following), dtype=np.int32)
        positions = np.full(len(rows), position, np.int32)
        return self._timed(following, positions, rows, self.tables, rows)

    def _timed(self, *arrays: Any) -> int:
        start = perf_counter_ns()
        self.executor.forward(*arrays)
        return perf_counter_ns() - start

    def first_token(self, text: str) -> int:
        """Tokenise, compute, and take the greatest logit."""
        self.begin(1)
        ids = np.array(self.text.encode(text), np.int32)
        last = np.array([len(ids) - 1], np.int32)
        rows = np.zeros(len(ids), np.int32)
        places = np.arange(len(ids), dtype=np.int32)
        return int(self.executor.forward(ids, places, rows, self.tables, last)[0].argmax())

    def sizes(self) -> dict[str, float]:
        """What the executor says of its parts."""
        known = self.executor.statistics()
        named = {"weights": "weights_bytes", "kv": "kv_bytes"}
        return {name: int(known[key]) / (1 << 20) for name, key in named.items()}

    def close(self) -> None:
        """Free the executor."""
        self.executor.close()
