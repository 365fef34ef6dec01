# SPDX-License-Identifier: BUSL-1.1
"""Write the seeds of the GGUF fuzzer: small files that have everything in them."""

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "csrc" / "synapse" / "tests" / "corpus"
sys.path.insert(0, str(ROOT / "tests" / "support"))

import gguf_writer as g  # noqa: E402

BLOCKS = {
    "F32": (0, 8, 32),
    "F16": (1, 8, 16),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "BF16": (30, 8, 16),
    "IQ4_XS": (23, 256, 136),
}
KEYS = [
    ("general.architecture", 8, "llama"),
    ("llama.block_count", 4, 1),
    ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5),
    ("tokenizer.ggml.add_bos_token", 7, True),
    ("tokenizer.ggml.tokens", (9, 8), ["<s>", "a", "", "bc"]),
    ("tokenizer.ggml.scores", (9, 6), [0.0, -1.0, -2.0]),
    ("flags", (9, 7), [True, False]),
    ("wide", (9, 10), [1, 2**63]),
    ("empty", (9, 8), []),
    ("numbers.i8", 1, -1),
    ("numbers.u16", 2, 1),
    ("numbers.i64", 11, -1),
    ("numbers.f64", 12, 1.5),
]


def main():
    random.seed(1)
    tensors = [
        (f"blk.0.{name}", (columns, 3), number, random.randbytes(3 * size))
        for name, (number, columns, size) in BLOCKS.items()
    ]
    files = {
        "empty": g.write([], []),
        "keys": g.write(KEYS, []),
        "tensors": g.write([], tensors[:3]),
        "version2": g.write(KEYS[:5], [("x", (4,), 0, bytes(16))], version=2),
        "aligned": g.write([("general.alignment", 4, 64)], [tensors[6], tensors[3]], alignment=64),
        **{f"type-{each[0][6:].lower()}": g.write([], [each]) for each in tensors},
    }
    for name, content in files.items():
        (CORPUS / f"{name}.gguf").write_bytes(content)


if __name__ == "__main__":
    main()
