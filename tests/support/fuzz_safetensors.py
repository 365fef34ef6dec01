# SPDX-License-Identifier: BUSL-1.1
"""Mutations of safetensors files. By hand: python tests/support/fuzz_safetensors.py SECONDS SEED.

Half of the mutants keep the header's length right, so that what is wrong lies behind it; half
of those are changed by words of the format, not by bytes.
"""

from __future__ import annotations

import random
import re
import sys
import time

import safetensors_writer

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import safetensors

SEEDS = [
    safetensors_writer.write(
        {
            "a": ("F32", (2,), bytes(8)),
            "b": ("BF16", (3,), bytes(6)),
            "c": ("U8", (2, 5), bytes(10)),
        },
        {"format": "pt"},
    ),
    safetensors_writer.write({"none": ("F16", (0, 3), b""), "one": ("F64", (), bytes(8))}),
    safetensors_writer.write({}),
]
WORDS = [
    *("-1", "0", "1", "4", "8", "24", "1e3", "1.0", "NaN", "null", "true", "{}", "[]", '""'),
    *("2147483648", "9223372036854775807", "18446744073709551616", "9" * 400),
    *('"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"F32"', '"F8_E4M3"', '"Q4"'),
    *('"a"', '"b"', "[0,8]", "[8,0]", "[0,8,8]", "[" * 50, '{"a":' * 50, '"\\ud800"', "\x00"),
]
TOKEN = re.compile(rb'"[^"]*"|-?\d+|[\[\]{}:,]')


def mutant(rng: random.Random) -> bytes:
    """A file that was one of the seeds."""
    content = rng.choice(SEEDS)
    if rng.random() < 0.5:
        return bytes(changed(content, rng))
    header, body = safetensors_writer.split(content)
    header = by_words(header, rng) if rng.random() < 0.5 else bytes(changed(header, rng))
    return safetensors_writer.raw(header, body)


def changed(content: bytes, rng: random.Random) -> bytearray:
    """One to four changes of bytes."""
    result = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at : at + 8] = rng.choice((0, 1, 1 << 31, 1 << 63, (1 << 64) - 1)).to_bytes(8)
        elif kind == 2:
            del result[at : at + rng.randint(1, 9)]
        else:
            result[at:at] = rng.randbytes(rng.randint(1, 9))
    return result


def by_words(header: bytes, rng: random.Random) -> bytes:
    """One to three words replaced, dropped or said twice."""
    words = TOKEN.findall(header)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words)) if words else 0
        kind = rng.randrange(3)
        other = rng.choice(WORDS).encode() if rng.random() < 0.7 else rng.choice(words or [b""])
        words[at : at + (kind != 2)] = [] if kind == 0 else [other]
    return b"".join(words)


def outcome(content: bytes) -> str:
    """How a file ends: parsed, or the error's name. Anything else is a finding, and raised."""
    try:
        found = safetensors.parse(memoryview(content))
    except (LoadFailed, Unsupported) as err:
        if not err.message.isprintable() or len(err.message) > 1000:
            raise RuntimeError(f"a message unfit to be shown: {err.message!r}") from err
        return type(err).__name__
    assert all(tensor.data.nbytes <= len(content) for tensor in found.values())
    return "parsed"


def main() -> None:
    """As many seconds as are wanted."""
    seconds, rng = float(sys.argv[1]), random.Random(int(sys.argv[2]))
    counts: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutant(rng)
        try:
            name = outcome(content)
        except BaseException:
            print(content)
            raise
        counts[name] = counts.get(name, 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
