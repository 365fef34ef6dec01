# SPDX-License-Identifier: BUSL-1.1
"""How fast this machine could be at most, measured in the same run.

A step reads every weight once and the streams' caches, and multiplies every weight once per
row. Its least time is the longer of the two: bytes over the memory bandwidth, 8-bit operations
over the instruction set's peak. What attention computes is left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from llm_peers.peer import PROMPT, STEPS, parse

from mlos_core.synapse.weights import open_model

SOURCE = Path(__file__).parent / "llm_peers" / "probe.c"
CACHE_ITEM = 2
"""Bytes of a number in the cache: half precision for everybody."""


@dataclass(frozen=True)
class Machine:
    """Bytes read and 8-bit operations done per second, by as many threads as the contestants
    have."""

    bytes_per_s: float
    int8_ops_per_s: float


@dataclass(frozen=True)
class Work:
    """What a model costs: bytes and numbers of all matrices of the blocks and of the head, and
    bytes of the cache per token."""

    body_bytes: int
    head_bytes: int
    body_numbers: int
    head_numbers: int
    cache_bytes: int


def probe(threads: int, folder: Path) -> Machine | None:
    """Compile and run the probe; None where there is no C compiler, or no AVX2."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = str(folder / "probe")
    words = ["-O3", "-march=native", "-pthread", str(SOURCE), "-o", program]
    # A kernel may refuse the tiles that its processor has.
    for more in ([], ["-mno-amx-int8"]):
        made = subprocess.run([compiler, *words, *more], check=False, capture_output=True)
        if made.returncode:
            continue
        done = subprocess.run([program, str(threads)], check=False, capture_output=True)
        if not done.returncode:
            return Machine(**json.loads(done.stdout))
    return None


def work_of(model: str) -> Work:
    """Counted in the model's file."""
    with open_model(model) as files:
        matrices = {n: t for n, t in files.tensors.items() if t.rows > 1}
        head = matrices.get("output.weight") or matrices["token_embd.weight"]
        body = [t for n, t in matrices.items() if n.startswith("blk.")]
        config = files.config
        width = config.kv_heads * config.head_dim
        return Work(
            body_bytes=sum(t.data.nbytes for t in body),
            head_bytes=head.data.nbytes,
            body_numbers=sum(t.rows * t.columns for t in body),
            head_numbers=head.rows * head.columns,
            cache_bytes=2 * len(config.layers) * width * CACHE_ITEM,
        )


def limit(machine: Machine, work: Work, case: str) -> tuple[float, str]:
    """Tokens per second at most, and what sets that limit: `memory` or `int8`."""
    kind, number = parse(case)
    if kind == "prefill":
        rows, asked, cached = number, 1, number
    else:
        rows, asked, cached = number, number, number * (PROMPT + STEPS // 2)
    read = work.body_bytes + work.head_bytes + cached * work.cache_bytes
    operations = 2 * (work.body_numbers * rows + work.head_numbers * asked)
    least = {"memory": read / machine.bytes_per_s, "int8": operations / machine.int8_ops_per_s}
    bound = max(least, key=lambda name: least[name])
    return rows / least[bound], bound
