# SPDX-License-Identifier: BUSL-1.1
"""The sampler in C beside a slow one in float64 that does what the options say."""

import numpy as np
import pytest

from mlos_core.synapse.engine.sampler import NONE_LEFT, NOT_FINITE, Sampler, make_draw
from mlos_core.synapse.engine.sampling import SamplingParams

VOCAB = 500


def adjusted(logits, params, history, prompt, mask, ends):
    """The logits after mask, bias, penalties and bans."""
    x = logits.astype(np.float64)
    if mask is not None:
        x[~mask] = -np.inf
    for key, value in (params.logit_bias or {}).items():
        x[int(key)] += value
    counts = np.bincount(history[prompt:], minlength=VOCAB)
    seen = np.unique(history)
    factor = np.where(x[seen] > 0, 1 / params.repetition_penalty, params.repetition_penalty)
    x[seen] *= factor
    x -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
    if len(history) - prompt < params.min_tokens:
        x[list(ends)] = -np.inf
    return x


def probabilities(x, params):
    """What each token's chance is after temperature, top-k, top-p and min-p."""
    order = np.lexsort((np.arange(len(x)), -x))
    if params.greedy:
        return np.eye(len(x))[order[0]]
    p = np.exp((x - x.max()) / params.temperature)
    if params.top_k > 0:
        p[order[params.top_k :]] = 0
    cumulative = np.cumsum(p[order]) / p.sum()
    p[order[1:][cumulative[:-1] >= params.top_p]] = 0
    p[p < params.min_p * p.max()] = 0
    return p / p.sum()


class Bench:
    """A sampler with one slot, called for many rows of the same logits."""

    def __init__(self, params, history=(0,), prompt=1, mask=None, ends=()):
        self.sampler = Sampler(1, VOCAB)
        self.params = params
        self.history = np.array(history, np.int32)
        self.prompt = prompt
        self.boolean = mask
        self.ends = ends
        if mask is not None:
            words = np.packbits(np.pad(mask, (0, -VOCAB % 32)), bitorder="little").view(np.uint32)
            self.sampler.mask(0)[:] = words

    def draw(self, logits, seed=0, choice=0):
        draw = make_draw(self.params, seed, choice, frozenset(self.ends), VOCAB)
        masked = self.boolean is not None
        self.sampler.configure(0, draw, self.history, self.prompt, masked)
        lengths = np.array([len(self.history)], np.int32)
        return int(self.sampler.draw(logits.reshape(1, -1), np.zeros(1, np.int32), lengths)[0])

    def expected(self, logits):
        x = adjusted(logits, self.params, self.history, self.prompt, self.boolean, self.ends)
        return probabilities(x, self.params)


def random_logits(seed, spread=4.0):
    return (np.random.default_rng(seed).standard_normal(VOCAB) * spread).astype(np.float32)


CASES = {
    "plain": {},
    "cold": {"temperature": 0.4},
    "hot": {"temperature": 3.0},
    "top-k": {"top_k": 7},
    "top-k of all": {"top_k": 10_000},
    "top-p": {"top_p": 0.8},
    "nearly all of top-p": {"top_p": 0.9999, "temperature": 4.0},
    "min-p": {"min_p": 0.1},
    "all three": {"top_k": 40, "top_p": 0.9, "min_p": 0.02, "temperature": 1.7},
    "top-p and min-p": {"top_p": 0.95, "min_p": 0.05},
    "penalties": {
        "repetition_penalty": 1.4,
        "presence_penalty": 0.7,
        "frequency_penalty": 0.3,
        "top_k": 20,
    },
    "rewards": {"repetition_penalty": 0.7, "presence_penalty": -1.0, "top_p": 0.9},
    "bias": {"logit_bias": {"3": 12.0, "4": -100.0, "499": 11.5}},
}
HISTORY = [3, 5, 5, 7, 499, 7, 7, 3, 3, 0]


@pytest.mark.parametrize("name", CASES)
def test_tokens_are_drawn_with_the_chances_of_the_reference(name):
    bench = Bench(SamplingParams(**CASES[name]), HISTORY, prompt=4)
    logits = random_logits(len(name))
    expected = bench.expected(logits)
    count = 20_000
    drawn = np.bincount([bench.draw(logits, seed) for seed in range(count)], minlength=VOCAB)
    assert not drawn[expected == 0].any()
    deviation = np.abs(drawn - count * expected) / np.sqrt(count * expected + 1)
    assert deviation.max() < 5


@pytest.mark.parametrize("seed", range(40))
def test_no_token_outside_the_references_set_is_drawn_with_any_options(seed):
    random = np.random.default_rng(seed)
    params = SamplingParams(
        temperature=float(random.choice([0.3, 1.0, 2.5])),
        top_k=int(random.choice([0, 1, 3, 60])),
        top_p=float(random.choice([1.0, 0.99, 0.5, 0.01])),
        min_p=float(random.choice([0.0, 0.001, 0.2, 1.0])),
        min_tokens=int(random.choice([0, 50])),
    )
    mask = random.random(VOCAB) < 0.3
    mask[:3] = True
    bench = Bench(params, HISTORY, 2, mask if seed % 2 else None, ends=(0, 9))
    for turn in range(30):
        logits = random_logits(seed * 100 + turn, 2.0)
        assert bench.expected(logits)[bench.draw(logits, turn)] > 0


@pytest.mark.parametrize("seed", range(20))
def test_greedy_takes_the_references_token(seed):
    params = SamplingParams(temperature=0, repetition_penalty=1.5, frequency_penalty=0.5)
    bench = Bench(params, HISTORY, 3)
    logits = random_logits(seed)
    assert bench.draw(logits) == int(np.argmax(bench.expected(logits)))


def test_of_equal_logits_the_lowest_id_is_the_greedy_one():
    logits = np.zeros(VOCAB, np.float32)
    logits[[450, 17, 18]] = 5
    assert Bench(SamplingParams(temperature=0)).draw(logits) == 17
    assert Bench(SamplingParams(top_k=1)).draw(logits) == 17
    assert Bench(SamplingParams(top_p=0.001)).draw(logits) == 17


def test_a_draw_depends_on_seed_position_and_choice_and_on_nothing_else():
    logits = np.zeros(VOCAB, np.float32)
    bench = Bench(SamplingParams())
    again = Bench(SamplingParams())
    seeds = [bench.draw(logits, seed) for seed in range(50)]
    assert [again.draw(logits, seed) for seed in range(50)] == seeds
    assert len(set(seeds)) > 30
    assert len({bench.draw(logits, 1, choice) for choice in range(50)}) > 30
    positions = [Bench(SamplingParams(), [0] * n, 1).draw(logits, 1) for n in range(1, 50)]
    assert len(set(positions)) > 30


def test_logprobs_are_those_of_the_raw_logits():
    logits = random_logits(1)
    bench = Bench(SamplingParams(logprobs=5, logit_bias={"8": 100.0}), [8] * 5, 1)
    token = bench.draw(logits)
    x = logits.astype(np.float64)
    exact = x - x.max() - np.log(np.exp(x - x.max()).sum())
    found = bench.sampler.logprobs(0, 5)
    assert token == 8
    assert found.chosen == pytest.approx(exact[8], abs=1e-5)
    order = np.argsort(-x)[:5]
    assert found.ids == order.tolist()
    assert found.values == pytest.approx(exact[order].tolist(), abs=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_told(wrong, temperature):
    logits = random_logits(0)
    logits[123] = wrong
    assert Bench(SamplingParams(temperature=temperature)).draw(logits) == NOT_FINITE


def test_when_nothing_is_left_it_is_told():
    mask = np.zeros(VOCAB, bool)
    mask[4] = True
    params = SamplingParams(min_tokens=10)
    assert Bench(params, mask=mask, ends=(4,)).draw(random_logits(0)) == NONE_LEFT
    assert Bench(params, mask=mask, ends=(5,)).draw(random_logits(0)) == 4


def test_each_row_is_drawn_as_if_it_were_alone():
    params = [
        SamplingParams(temperature=0),
        SamplingParams(top_k=5, logprobs=3),
        SamplingParams(top_p=0.7, repetition_penalty=1.3),
        SamplingParams(min_p=0.05, logit_bias={"1": 3.0}),
    ]
    logits = np.stack([random_logits(seed) for seed in range(4)])
    alone = [Bench(p, HISTORY, 2).draw(logits[i], seed=i) for i, p in enumerate(params)]
    sampler = Sampler(6, VOCAB)
    history = np.array(HISTORY, np.int32)
    slots = np.array([4, 0, 5, 1], np.int32)
    for i, p in enumerate(params):
        draw = make_draw(p, i, 0, frozenset(), VOCAB)
        sampler.configure(slots[i], draw, history, 2, masked=False)
    lengths = np.full(6, len(HISTORY), np.int32)
    assert sampler.draw(logits, slots, lengths).tolist() == alone


def test_of_very_many_likely_tokens_top_p_keeps_the_right_ones():
    vocab, params = 30_000, SamplingParams(top_p=0.7)
    logits = (np.random.default_rng(5).standard_normal(vocab) / 2).astype(np.float32)
    sampler = Sampler(1, vocab)
    history = np.zeros(1, np.int32)
    zero = np.zeros(1, np.int32)
    expected = probabilities(logits.astype(np.float64), params)
    drawn = []
    for seed in range(4000):
        draw = make_draw(params, seed, 0, frozenset(), vocab)
        sampler.configure(0, draw, history, 1, masked=False)
        drawn.append(int(sampler.draw(logits.reshape(1, -1), zero, zero + 1)[0]))
    assert expected[drawn].min() > 0
    order = np.argsort(-logits)
    upper = order[: int(np.searchsorted(np.cumsum(expected[order]), 0.5))]
    assert np.isin(drawn, upper).mean() == pytest.approx(0.5, abs=0.04)
