# SPDX-License-Identifier: BUSL-1.1
"""A language model that is a hash: an executor, a text side, and an engine over both.

The executor keeps nothing but tokens in its KV cache, and computes a row's logits from the
tokens that it finds there through the block table. Whatever is wrong in the books (a block
given twice, evicted too early, named wrongly, not written) gives other tokens than a lone run.
"""

import codecs
import hashlib
import itertools
import json
from types import SimpleNamespace

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.smi import EngineRequest
from mlos_core.synapse.engine import Engine, Limits

EOS = 256
VOCAB = 259
EMPTY = -1


def logits_after(tokens, sharpness=3.0):
    """The logits behind a text: a function of its tokens."""
    digest = hashlib.blake2b(np.asarray(tokens, np.int32).tobytes(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest, "little"))
    logits = random.standard_normal(VOCAB).astype(np.float32) * np.float32(sharpness)
    logits[EOS] -= 3
    return logits


def state_after(tokens):
    """The hidden state behind a text."""
    return logits_after(tokens)[:8].copy()


class FakeExecutor:
    """See above. `fails`: raise at that call."""

    vocab_size = VOCAB
    pool = None

    def __init__(self, kv_blocks=64, block_size=32, context_length=512):
        self.kv_blocks = kv_blocks
        self.block_size = block_size
        self.context_length = context_length
        self.cache = np.full((kv_blocks, block_size), EMPTY, np.int32)
        self.calls = 0
        self.rows = 0
        self.widths = []
        self.closed = False
        self.broken = lambda tokens: False
        self.fails = lambda: False

    def _run(self, tokens, positions, sequences, tables, wanted, function):
        if self.fails():
            raise RuntimeError("the executor is on fire")
        self._check(tokens, positions, sequences, tables)
        self.calls += 1
        self.rows += len(tokens)
        self.widths.append(len(tokens))
        size = self.block_size
        for token, position, sequence in zip(tokens, positions, sequences, strict=True):
            self.cache[tables[sequence, position // size], position % size] = token
        out = []
        for row in wanted:
            table = tables[sequences[row]]
            count = positions[row] + 1
            text = self.cache[table[: -(-count // size)]].reshape(-1)[:count]
            assert EMPTY not in text, "a position was read that nobody wrote"
            out.append(function(text))
        return np.array(out, np.float32)

    def _check(self, tokens, positions, sequences, tables):
        assert tokens.dtype == positions.dtype == sequences.dtype == tables.dtype == np.int32
        assert len(tokens) == len(positions) == len(sequences) > 0
        assert tokens.min() >= 0
        assert tokens.max() < VOCAB
        assert positions.min() >= 0
        assert positions.max() < self.context_length
        assert tables.min() >= 0
        assert tables.max() < self.kv_blocks
        seen = set()
        for sequence, rows in itertools.groupby(range(len(tokens)), lambda r: sequences[r]):
            rows = list(rows)
            assert sequence not in seen, "rows of one sequence are not together"
            seen.add(sequence)
            first = positions[rows[0]]
            assert positions[rows].tolist() == list(range(first, first + len(rows)))
        written = [
            (tables[s, p // self.block_size], p % self.block_size)
            for s, p in zip(sequences, positions, strict=True)
        ]
        assert len(set(written)) == len(written), "two rows write to one place"

    def forward(self, tokens, positions, sequences, tables, wanted):
        def logits(text):
            found = logits_after(text)
            return np.full_like(found, np.nan) if self.broken(text.tolist()) else found

        out = self._run(tokens, positions, sequences, tables, wanted, logits)
        return out.reshape(len(wanted), VOCAB)

    def hidden(self, tokens, positions, sequences, tables, wanted):
        out = self._run(tokens, positions, sequences, tables, wanted, state_after)
        return out.reshape(len(wanted), 8)

    def close(self):
        self.closed = True


class FakeDetokenizer:
    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token):
        return self._decoder.decode(bytes([token])) if token < 256 else ""

    def flush(self):
        return self._decoder.decode(b"", True)


class OneOf:
    """A grammar: one of several byte strings, then the end."""

    def __init__(self, choices):
        self.choices = [choice.encode() for choice in choices]
        self.at = 0
        self.finished = False

    def mask_into(self, words):
        words[:] = 0
        for choice in self.choices:
            token = choice[self.at] if self.at < len(choice) else EOS
            words[token // 32] |= np.uint32(1 << token % 32)

    def accept(self, token):
        self.choices = [c for c in self.choices if c[self.at : self.at + 1] == bytes([token])]
        self.at += 1
        self.finished = all(len(choice) == self.at for choice in self.choices)


class FakeToolParser:
    """A call is everything between < and >."""

    def __init__(self):
        self._inside = None

    def push(self, piece):
        shown, calls = "", []
        for character in piece:
            if self._inside is None:
                if character == "<":
                    self._inside = ""
                else:
                    shown += character
            elif character == ">":
                calls.append(SimpleNamespace(name=self._inside, arguments="{}"))
                self._inside = None
            else:
                self._inside += character
        return shown, calls

    def flush(self):
        rest, self._inside = "<" + self._inside if self._inside is not None else "", None
        return rest, []


class FakeText:
    """Token ids are bytes; 256 ends a text."""

    vocab_size = VOCAB
    eos_ids = frozenset({EOS})

    def encode(self, text, *, special=True, wrap=True):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def token_bytes(self, token):
        return bytes([token]) if token < 256 else b"<end>"

    def detokenizer(self, *, skip_special=True):
        return FakeDetokenizer()

    def render(self, messages, *, tools=None, add_generation_prompt=True, **variables):
        said = "".join(f"[{m['role']}]{m['content']}" for m in messages)
        return said + json.dumps(variables) * bool(variables) + "[a]" * add_generation_prompt

    def tool_parser(self, tools):
        return FakeToolParser()

    def tool_grammar(self, tools, names):
        return OneOf([f"<{name}>" for name in names or ("any",)])

    def grammar(self, spec):
        if spec.kind != "choice":
            raise InvalidInput("this grammar knows choices only")
        return OneOf(json.loads(spec.text))


def tokens_input(tokens):
    return {"tokens": np.array(tokens, np.int32)}


def text_input(text, name="text"):
    array = np.empty(1, object)
    array[0] = text if isinstance(text, bytes) else text.encode()
    return {name: array}


class Rig:
    """An engine over the stand-ins; events are kept by request, and looked over."""

    def __init__(
        self, *, max_num_seqs=8, tokens=64, mixed=32, max_waiting=100, mixed_seconds=0.0, **executor
    ):
        self.executor = FakeExecutor(**executor)
        limits = Limits(max_num_seqs, tokens, mixed)
        self.engine = Engine(
            self.executor, FakeText(), limits, max_waiting, mixed_seconds=mixed_seconds
        )
        self.events = {}
        self.notes = {}
        self.ended = {}
        self.running = set()
        self.last = 0

    def submit(self, prompt, *, resume_from=0, key=None, owner="", journal=(), **parameters):
        """Ask; the request's id."""
        self.last += 1
        inputs = prompt if isinstance(prompt, dict) else tokens_input(prompt)
        key = self.last if key is None else key
        request = EngineRequest(
            self.last, inputs, parameters, resume_from, key, owner, tuple(journal)
        )
        self.engine.submit(request)
        self.running.add(self.last)
        self.events[self.last], self.notes[self.last] = [], []
        return self.last

    def step(self):
        """One step, and a look at the books."""
        events = self.engine.step()
        for event in events:
            assert event.id in self.running, "an event of a request that does not run"
            if event.data is not None:
                self.events[event.id].append(
                    msgspec.msgpack.decode(msgspec.msgpack.encode(event.data))
                )
                self.notes[event.id].append(event.note)
            if event.final or event.error is not None:
                self.running.remove(event.id)
                self.ended[event.id] = event
        self.engine.scheduler.check_integrity()
        return events

    def cancel(self, id):
        self.engine.cancel(id)
        self.running.discard(id)
        self.engine.scheduler.check_integrity()

    def run(self, steps=5000):
        """Until nothing runs."""
        for _ in range(steps):
            if not self.running:
                return self
            self.step()
        raise AssertionError(f"{self.running} still run after {steps} steps")

    def ask(self, prompt, **parameters):
        """Ask alone: the final event."""
        return self.ended[self.submit_and_run(prompt, **parameters)]

    def submit_and_run(self, prompt, **parameters):
        id = self.submit(prompt, **parameters)
        self.run()
        return id

    def tokens(self, id, choice=0):
        """What the events of a choice say it got."""
        return [t for e in self.events[id] if e["i"] == choice for t in e["t"]]

    def text(self, id, choice=0):
        return "".join(e["s"] for e in self.events[id] if e["i"] == choice)


def greedy(prompt, count):
    """What a lone run of the model gives at temperature 0."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(logits_after(tokens))))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]
