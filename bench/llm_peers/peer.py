# SPDX-License-Identifier: BUSL-1.1
"""What a contestant implements, and the work that is the same for all.

Tokens are random, but the same for everybody: what is measured does not depend on which
words they are, and no contestant has to agree with another about the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
PROMPT = 16
"""Tokens of each stream before its first measured step."""
STEPS = 48
"""Measured steps of a stream; then it begins anew, so that its length stays the same."""
LOWEST, HIGHEST = 100, 40_000
"""Ordinary tokens of the vocabularies in question."""


@dataclass(frozen=True)
class Job:
    """The model, and what a contestant may use: threads, and a cache for so many tokens."""

    model: str
    threads: int
    context: int
    options: dict[str, str]


def tokens(seed: int, count: int) -> Tokens:
    """`count` tokens, the same in every process."""
    return np.random.default_rng(seed).integers(LOWEST, HIGHEST, count, np.int32)


def parse(case: str) -> tuple[str, int]:
    """`("decode", 4)` of `decode-4`."""
    kind, _, number = case.partition("-")
    return kind, int(number)


class Peer:
    """One contestant, with the model loaded."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def about(self) -> dict[str, str]:
        """Versions and whatever else decides how fast it is."""
        return {}

    def begin(self, streams: int) -> None:
        """Forget all streams; there will be so many."""
        raise NotImplementedError

    def prefill(self, streams: int, prompt: Tokens) -> None:
        """Compute `prompt` (the same for each of `streams` new streams), no logits asked."""
        raise NotImplementedError

    def time_prefill(self, prompt: Tokens) -> int:
        """Nanoseconds until a new stream's prompt is computed, with the last token's logits."""
        raise NotImplementedError

    def time_step(self, following: Tokens, position: int) -> int:
        """Nanoseconds of one step: one token for each stream, all at `position`, with logits."""
        raise NotImplementedError

    def time_answer(self, length: int) -> int:
        """Nanoseconds from asking for an answer of so many tokens to the last of them."""
        raise NotImplementedError

    def first_token(self, text: str) -> int:
        """The likeliest token after `text`, tokenised by the contestant itself."""
        raise NotImplementedError

    def sizes(self) -> dict[str, float]:
        """MiB of parts of its memory that it knows: `weights`, `kv`."""
        return {}

    def close(self) -> None:
        """Let go of everything."""


def measure(peer: Peer, case: str, count: int) -> list[int]:
    """`count` samples of a case, in ns. One more before them warms up and does not count."""
    kind, number = parse(case)
    if kind == "answer":
        return [peer.time_answer(number) // number for _ in range(count + 1)][1:]
    return (prefills if kind == "prefill" else steps)(peer, number, count + 1)[1:]


def prefills(peer: Peer, length: int, count: int) -> list[int]:
    """One sample per prompt of `length` tokens."""
    samples = []
    for turn in range(count):
        peer.begin(1)
        samples.append(peer.time_prefill(tokens(turn, length)))
    return samples


def steps(peer: Peer, streams: int, count: int) -> list[int]:
    """One sample per step of all `streams` together."""
    samples: list[int] = []
    while len(samples) < count:
        peer.begin(streams)
        peer.prefill(streams, tokens(streams, PROMPT))
        for step in range(min(STEPS, count - len(samples))):
            samples.append(peer.time_step(tokens(1000 + step, streams), PROMPT + step))
    return samples
