# SPDX-License-Identifier: BUSL-1.1
"""llama.cpp through llama-cpp-python's low-level interface: its C functions, one by one.

The batch is filled before the clock starts and the same one is used again: what is timed is
`llama_decode` alone.
"""

from __future__ import annotations

import ctypes
from time import perf_counter_ns
from typing import Any

import llama_cpp as lib
import numpy as np

from llm_peers.peer import Job, Peer, Tokens

BATCH = 2048
UBATCH = 512
EACH = 256
"""Tokens of each of several streams; it rounds up to so many."""
MIB = 1 << 20


@lib.llama_log_callback
def quiet(*_: Any) -> None:
    """llama.cpp would tell much about itself."""


class LlamaCpp(Peer):
    """A model, and a context for the case at hand."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        lib.llama_log_set(quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(
            job.model.encode(), lib.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {job.model}")
        self.context: Any = None
        self.streams = 0
        self.batch = lib.llama_batch_init(BATCH, 0, 1)

    def begin(self, streams: int) -> None:
        """A context of as many streams as there are: it is faster than one of more. It has
        the whole cache for one stream, and for each of many what they need."""
        if streams != self.streams:
            self._end()
            params = lib.llama_context_default_params()
            params.n_ctx = self.job.context if streams == 1 else streams * EACH
            params.n_batch, params.n_ubatch = BATCH, UBATCH
            params.n_threads = params.n_threads_batch = self.job.threads
            params.n_seq_max = self.streams = streams
            self.context = lib.llama_init_from_model(self.model, params)
            if not self.context:
                raise SystemExit("llama.cpp cannot make a context")
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def _end(self) -> None:
        if self.context:
            lib.llama_free(self.context)

    def about(self) -> dict[str, str]:
        """Version, and the instructions it was built for."""
        return {"llama-cpp-python": lib.__version__, "info": lib.llama_print_system_info().decode()}

    def _fill(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Rows of (token, position, stream, logits wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, stream, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, stream

    def _decode(self) -> int:
        start = perf_counter_ns()
        status = lib.llama_decode(self.context, self.batch)
        took = perf_counter_ns() - start
        if status:
            raise SystemExit(f"llama_decode gives {status}")
        return took

    def prefill(self, streams: int, prompt: Tokens) -> None:
        """All streams in one batch."""
        every = prompt.tolist()
        self._fill([(t, at, s, False) for s in range(streams) for at, t in enumerate(every)])
        self._decode()

    def time_prefill(self, prompt: Tokens) -> int:
        """One stream, the last token's logits."""
        last = len(prompt) - 1
        self._fill([(t, at, 0, at == last) for at, t in enumerate(prompt.tolist())])
        return self._decode()

    def time_step(self, following: Tokens, position: int) -> int:
        """A token for each stream."""
        self._fill([(t, position, s, True) for s, t in enumerate(following.tolist())])
        return self._decode()

    def first_token(self, text: str) -> int:
        """Tokenise, decode, and take the greatest logit."""
        self.begin(1)
        vocabulary = lib.llama_model_get_vocab(self.model)
        raw, room = text.encode(), (lib.llama_token * BATCH)()
        count = lib.llama_tokenize(vocabulary, raw, len(raw), room, BATCH, True, True)
        self._fill([(room[i], i, 0, i == count - 1) for i in range(count)])
        self._decode()
        logits = np.ctypeslib.as_array(
            lib.llama_get_logits_ith(self.context, -1), (lib.llama_vocab_n_tokens(vocabulary),)
        )
        return int(logits.argmax())

    def sizes(self) -> dict[str, float]:
        """Weights as the file has them; the cache in half precision."""
        model = self.model
        width = lib.llama_model_n_embd(model) // lib.llama_model_n_head(model)
        per_token = (
            2 * 2 * width * lib.llama_model_n_head_kv(model) * lib.llama_model_n_layer(model)
        )
        return {
            "weights": lib.llama_model_size(model) / MIB,
            "kv": per_token * lib.llama_n_ctx(self.context) / MIB,
        }

    def close(self) -> None:
        """Free context and model."""
        lib.llama_batch_free(self.batch)
        self._end()
        lib.llama_model_free(self.model)
