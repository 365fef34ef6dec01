# SPDX-License-Identifier: BUSL-1.1
"""What judge and contestants have to do, and the numbers that come out of it.

Whoever does it needs NumPy and two functions: logits of a whole text, and a greedy answer.
Everything travels through a folder: `tokens.json` (token ids, the same for all), the judge's
answers and its log-probabilities (`text-0.npy`, `chat-0.npy`), a contestant's `NAME.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Logits = Callable[[list[int]], Floats]
Greedy = Callable[[list[int], int, frozenset[int]], list[int]]


class Job(NamedTuple):
    """One process's orders, as they travel on its command line."""

    name: str
    model: str
    folder: str
    threads: int
    new_tokens: int
    stride: int
    option: str = ""


def job(line: str) -> Job:
    return Job(**json.loads(line))


def tokens(order: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(order.folder) / "tokens.json").read_text())
    return found


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    sums = np.exp(shifted, dtype=np.float32).sum(-1, keepdims=True, dtype=np.float64)
    result: Floats = (shifted - np.log(sums)).astype(np.float32)
    return result


class Case(NamedTuple):
    """A text whose logits are compared: at `places`, each predicting the next token."""

    name: str
    ids: list[int]
    places: list[int]


def cases(order: Job, given: dict[str, Any], answers: Sequence[list[int]]) -> Iterator[Case]:
    """Windows of the text at every `stride`th position, and every position of the answers."""
    for index, ids in enumerate(given["text"]):
        yield Case(f"text-{index}", ids, list(range(0, len(ids) - 1, order.stride)))
    for index, (prompt, answer) in enumerate(zip(given["prompts"], answers, strict=True)):
        ids = prompt + answer
        yield Case(f"chat-{index}", ids, list(range(len(prompt) - 1, len(ids) - 1)))


def surprise(ids: list[int], logits: Floats, begin: int) -> tuple[float, int]:
    """The negative log-likelihood of all tokens after the first `begin`, and their number."""
    at = np.arange(begin, len(ids))
    logs = [log_softmax(logits[a - 1 : a])[0, ids[a]] for a in at]
    return -float(np.sum(logs, dtype=np.float64)), len(at)


def divergence(judge: Floats, mine: Floats) -> list[float]:
    """KL(judge || mine) in nats at each position, of log-probabilities [positions, vocab]."""
    return [
        float(np.sum(np.exp(p, dtype=np.float64) * (p - q), dtype=np.float64))
        for p, q in zip(judge, mine, strict=True)
    ]


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two answers share from their beginning."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def answers(order: Job, given: dict[str, Any], greedy: Greedy) -> list[list[int]]:
    ends = frozenset(given["ends"])
    return [greedy(prompt, order.new_tokens, ends) for prompt in given["prompts"]]


def judge(order: Job, logits: Logits, greedy: Greedy) -> None:
    """Answer, and keep all distributions for the others to be compared with."""
    folder, given = Path(order.folder), tokens(order)
    mine = answers(order, given, greedy)
    (folder / "answers.json").write_text(json.dumps(mine))
    lost, count = 0.0, 0
    for case in cases(order, given, mine):
        found = logits(case.ids)
        np.save(folder / f"{case.name}.npy", log_softmax(found[case.places]))
        if case.name.startswith("text"):
            one, n = surprise(case.ids, found, given["begin"])
            lost, count = lost + one, count + n
    write(order, {"perplexity": float(np.exp(lost / count)), "text_tokens": count})


def contest(order: Job, logits: Logits, greedy: Greedy) -> None:
    """Answer, and compare everything with the judge's."""
    folder, given = Path(order.folder), tokens(order)
    truth = json.loads((folder / "answers.json").read_text())
    mine = answers(order, given, greedy)
    shared = [common(a, b) for a, b in zip(truth, mine, strict=True)]
    agreed = [a == b for a, b in zip(truth, mine, strict=True)]
    lost, count = 0.0, 0
    kls: dict[str, list[float]] = {"text": [], "chat": []}
    for case in cases(order, given, truth):
        found = logits(case.ids)
        kind = case.name.partition("-")[0]
        theirs = np.load(folder / f"{case.name}.npy", mmap_mode="r")
        kls[kind] += divergence(theirs, log_softmax(found[case.places]))
        if kind == "text":
            one, n = surprise(case.ids, found, given["begin"])
            lost, count = lost + one, count + n
    write(
        order,
        {
            "agreed": sum(agreed),
            "prompts": len(agreed),
            "shared": sum(shared),
            "answered": sum(map(len, truth)),
            "lengths": shared,
            "kl_text": float(np.mean(kls["text"])),
            "kl_chat": float(np.mean(kls["chat"])),
            "kl_positions": {kind: len(values) for kind, values in kls.items()},
            "perplexity": float(np.exp(lost / count)),
        },
    )


def write(order: Job, result: dict[str, Any]) -> None:
    (Path(order.folder) / f"{order.name}.json").write_text(json.dumps(result))
