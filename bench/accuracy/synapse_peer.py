# SPDX-License-Identifier: BUSL-1.1
"""Synapse's executor, without the engine around it; the option is its precision."""

import sys

import numpy as np
import work

from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import choose_isa
from mlos_core.synapse.weights import open_model

BLOCKS = 64


def main() -> None:
    order = work.job(sys.argv[1])
    files = open_model(order.model)
    precision, _, kv = order.option.partition(":")
    model = Executor(
        files,
        threads=order.threads,
        isa=choose_isa(),
        kv_blocks=BLOCKS,
        kv_dtype=kv or "bfloat16",
        precision=precision or "mixed",
    )
    table = np.arange(BLOCKS, dtype=np.int32)[None]

    def forward(ids, at, wanted):
        count = len(ids)
        return model.forward(
            np.array(ids, np.int32),
            np.arange(at, at + count, dtype=np.int32),
            np.zeros(count, np.int32),
            table,
            np.array(wanted, np.int32),
        )

    def logits(ids):
        return forward(ids, 0, range(len(ids))).copy()

    def greedy(ids, count, ends):
        answer, at, new = [], 0, ids
        while len(answer) < count:
            token = int(forward(new, at, [len(new) - 1])[0].argmax())
            at += len(new)
            answer.append(token)
            if token in ends:
                break
            new = [token]
        return answer

    work.contest(order, logits, greedy)
    model.close()


main()
