# SPDX-License-Identifier: BUSL-1.1
"""The law of the engine: a row's logits have the same bits however it came to be computed.

`python tests/synapse/invariance.py --model FILE --schedules 200` runs random schedules on a real
model; the tests run some on tiny ones. A schedule computes some texts in random batches: prompts
cut anywhere, steps of many sequences in any order, preemptions (a text begins anew in other
blocks) and prefixes that another text has computed already.
"""

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

import numpy as np

from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import ISAS, choose_isa, lib
from mlos_core.synapse.weights import open_model

BLOCK = Executor.block_size


def instruction_sets():
    """Those that this machine has."""
    return [name for name, isa in ISAS.items() if lib.syn_isa_available(isa)]


def digest(row):
    """Of one row of logits."""
    return hashlib.blake2b(row.tobytes(), digest_size=8).digest()


def make_texts(rng, count, longest, vocabulary):
    """Texts of different lengths; some begin like an earlier one."""
    texts = []
    for _ in range(count):
        text = [rng.randrange(vocabulary) for _ in range(rng.randint(1, longest))]
        if texts and rng.random() < 0.5:
            other = rng.choice(texts)
            shared = rng.randint(0, len(other))
            text[:shared] = other[:shared]
        texts.append(text)
    return texts


class Sequence:
    """A text on its way: how far it is, in which blocks."""

    def __init__(self, text):
        self.text = text
        self.blocks = []
        self.done = 0


class Schedule:
    """Texts, an executor, and random decisions."""

    def __init__(self, executor, texts, rng, wanted, *, widest=512):
        self.executor = executor
        self.rng = rng
        self.wanted = wanted
        self.widest = widest
        self.waiting = [Sequence(text) for text in texts]
        self.free = list(range(executor.kv_blocks))
        rng.shuffle(self.free)
        rng.shuffle(self.waiting)
        self.running = []
        self.kept = {}  # prefix of whole blocks -> its last block
        self.users = {}  # block -> how many have it, the prefix cache included
        self.counts = {"steps": 0, "rows": 0, "hits": 0, "preempted": 0}

    def run(self):
        """Compute everything; every row that is asked for is compared."""
        while self.waiting or self.running:
            while self.waiting and len(self.running) < 32 and self.rng.random() < 0.7:
                self.admit(self.waiting.pop())
            if self.running:
                self.step()
            if self.running and self.rng.random() < 0.05:
                self.preempt(self.rng.choice(self.running))

    def admit(self, sequence):
        """Take what is computed already of a text's beginning, all of it but the last token."""
        self.running.append(sequence)
        if self.rng.random() < 0.7:
            for end in range(BLOCK, len(sequence.text), BLOCK):
                block = self.kept.get(tuple(sequence.text[:end]))
                if block is None:
                    break
                sequence.blocks.append(block)
                self.users[block] += 1
                sequence.done = end
                self.counts["hits"] += 1

    def release(self, block):
        self.users[block] -= 1
        if not self.users[block]:
            self.free.insert(self.rng.randint(0, len(self.free)), block)

    def preempt(self, sequence):
        self.counts["preempted"] += 1
        self.running.remove(sequence)
        for block in sequence.blocks:
            self.release(block)
        self.waiting.append(Sequence(sequence.text))

    def grow(self, sequence, end):
        """Blocks up to position `end`; False: there are none left."""
        while len(sequence.blocks) * BLOCK < end:
            if not self.free:
                return False
            block = self.free.pop()
            self.users[block] = 1
            sequence.blocks.append(block)
        return True

    def step(self):
        """Some sequences go on by some tokens each."""
        chosen = self.rng.sample(self.running, self.rng.randint(1, len(self.running)))
        style = self.rng.choice(["decode", "mixed", "prefill"])
        rows, parts = [], []
        for sequence in chosen:
            left = len(sequence.text) - sequence.done
            most = 1 if style == "decode" else self.rng.choice([1, 3, 40, self.widest])
            count = min(left, self.rng.randint(1, most), self.widest * 2 - len(rows))
            if count < 1 or not self.grow(sequence, sequence.done + count):
                continue
            parts.append((sequence, sequence.done, count))
            rows += [(sequence, sequence.done + i) for i in range(count)]
        if not rows:
            self.make_room()
            return
        self.compute(parts, rows)

    def make_room(self):
        """The prefix cache gives its blocks back, then somebody begins anew."""
        for block in self.kept.values():
            self.release(block)
        self.kept.clear()
        self.preempt(self.rng.choice(self.running))

    def compute(self, parts, rows):
        tables = np.zeros((len(parts), max(len(s.blocks) for s, _, _ in parts)), np.int32)
        for index, (sequence, _, _) in enumerate(parts):
            tables[index, : len(sequence.blocks)] = sequence.blocks
        number = {id(sequence): index for index, (sequence, _, _) in enumerate(parts)}
        tokens = np.array([sequence.text[at] for sequence, at in rows], np.int32)
        positions = np.array([at for _, at in rows], np.int32)
        sequences = np.array([number[id(sequence)] for sequence, _ in rows], np.int32)
        share = self.rng.choice([0.0, 0.1, 1.0]) if len(rows) < 64 else 0.02
        asked = [i for i in range(len(rows)) if self.rng.random() < share]
        asked = asked or [self.rng.randrange(len(rows))]
        wanted = np.array(asked, np.int32)
        logits = self.executor.forward(tokens, positions, sequences, tables, wanted)
        for found, index in zip(logits, asked, strict=True):
            sequence, at = rows[index]
            self.compare(tuple(sequence.text[: at + 1]), digest(found))
        self.counts["steps"] += 1
        self.counts["rows"] += len(asked)
        for sequence, _, count in parts:
            self.advance(sequence, count)

    def compare(self, prefix, found):
        key = hashlib.blake2b(repr(prefix).encode(), digest_size=16).digest()
        expected = self.wanted.setdefault(key, found)
        assert found == expected, f"logits after {len(prefix)} tokens differ"

    def advance(self, sequence, count):
        before, sequence.done = sequence.done // BLOCK, sequence.done + count
        for index in range(before, sequence.done // BLOCK):
            prefix = tuple(sequence.text[: (index + 1) * BLOCK])
            if prefix not in self.kept:
                self.kept[prefix] = sequence.blocks[index]
                self.users[sequence.blocks[index]] += 1
        if sequence.done == len(sequence.text):
            self.running.remove(sequence)
            for block in sequence.blocks:
                self.release(block)


def run_schedules(executor, schedules, wanted, *, seed=0, texts=8, longest=200, widest=512):
    """Random schedules over the same texts; every logit ever seen is in `wanted` afterwards.

    Whatever a prefix gave first, it must give ever after: in other schedules, with other
    executors.
    """
    totals = dict.fromkeys(("steps", "rows", "hits", "preempted"), 0)
    made = make_texts(random.Random(seed), texts, longest, executor.vocab_size)
    for number in range(schedules):
        rng = random.Random(f"{seed}-{number}")
        some = rng.choices(made, k=rng.randint(1, 32 if number % 3 == 0 else 6))
        schedule = Schedule(executor, some, rng, wanted, widest=widest)
        schedule.run()
        for name, count in schedule.counts.items():
            totals[name] += count
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument(
        "--isa", nargs="*", default=[n for n in instruction_sets() if n != "reference"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--longest", type=int, default=700)
    parser.add_argument("--kv-dtype", default="bfloat16")
    options = parser.parse_args()
    wanted = {}
    for name in options.isa:
        with open_model(options.model) as files:
            executor = Executor(
                files,
                threads=options.threads,
                isa=choose_isa(name),
                kv_blocks=400,
                kv_dtype=options.kv_dtype,
            )
        start = time.monotonic()
        totals = run_schedules(
            executor, options.schedules, wanted, texts=12, longest=options.longest
        )
        executor.close()
        seconds = time.monotonic() - start
        print(f"{name}: {options.schedules} schedules in {seconds:.0f} s, {totals}", flush=True)
    print(f"{len(wanted)} different prefixes; no logit differs")


if __name__ == "__main__":
    sys.exit(main())
