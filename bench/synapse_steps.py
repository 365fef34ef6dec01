# SPDX-License-Identifier: BUSL-1.1
"""How long the executor's steps take: `python bench/synapse_steps.py MODEL [--threads 2]`.

Prefill of N tokens and decode of B sequences, each at a context of `--context` tokens: the
smallest and the median time of short repeats, which a busy machine disturbs least, and the
processor time per step, which it hardly disturbs at all.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import choose_isa
from mlos_core.synapse.weights import open_model


def rows_of(executor, sequences, first, count):
    """The arguments of a step: `count` rows of each sequence from position `first` on."""
    blocks = executor.kv_blocks // sequences
    tables = np.arange(sequences * blocks, dtype=np.int32).reshape(sequences, blocks)
    positions = np.tile(np.arange(first, first + count, dtype=np.int32), sequences)
    numbers = np.repeat(np.arange(sequences, dtype=np.int32), count)
    tokens = (positions * 7 + numbers * 13) % (executor.vocab_size - 10) + 5
    wanted = np.arange(count - 1, sequences * count, count, dtype=np.int32)
    return tokens.astype(np.int32), positions, numbers, tables, wanted


def measure(executor, arguments, repeats):
    """Seconds of each repeat, and processor seconds of one."""
    executor.forward(*arguments)
    times, before = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        executor.forward(*arguments)
        times.append(time.perf_counter() - start)
    return times, (time.process_time() - before) / repeats


def report(name, tokens, times, processor):
    """One line."""
    best, middle = min(times), statistics.median(times)
    print(
        f"{name:12} {tokens / best:9.0f} tok/s  best {best * 1e3:8.2f} ms"
        f"  median {middle * 1e3:8.2f} ms  processor {processor * 1e3:8.2f} ms",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="")
    parser.add_argument("--kv-dtype", default="bfloat16")
    parser.add_argument("--precision", default="mixed")
    parser.add_argument("--prefill", type=int, nargs="*", default=[128, 512])
    parser.add_argument("--decode", type=int, nargs="*", default=[1, 4, 16, 32])
    parser.add_argument("--context", type=int, default=260)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line")
    options = parser.parse_args()
    most = max([1, *options.decode])
    blocks = max(most * (options.context // 32 + 2), max([32, *options.prefill]) // 32 + 1)
    with open_model(options.model) as files:
        executor = Executor(
            files,
            threads=options.threads,
            isa=choose_isa(options.isa),
            kv_blocks=blocks,
            kv_dtype=options.kv_dtype,
            precision=options.precision,
        )
    print(executor.statistics())
    for count in options.prefill:
        arguments = rows_of(executor, 1, 0, count)
        report(f"prefill {count}", count, *run(executor, arguments, options.seconds))
    for sequences in options.decode:
        arguments = rows_of(executor, sequences, options.context, 1)
        report(f"decode {sequences}", sequences, *run(executor, arguments, options.seconds))
    executor.close()


def run(executor, arguments, seconds):
    """Repeat for about that long."""
    start = time.perf_counter()
    executor.forward(*arguments)
    once = time.perf_counter() - start
    return measure(executor, arguments, max(3, int(seconds / once)))


if __name__ == "__main__":
    main()
