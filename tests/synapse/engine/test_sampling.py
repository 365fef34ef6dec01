# SPDX-License-Identifier: BUSL-1.1
import random

import pytest
from fake_llm import Rig, text_input, tokens_input

from mlos_core.errors import InvalidInput, Overloaded
from mlos_core.synapse.engine.sampling import SamplingParams, parse


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperatur": 1}, "did you mean 'temperature'"),
        ({"colour": "red"}, "it knows task, "),
        ({"temperature": -0.1}, "temperature is -0.1; it must be from 0 to 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "must be above 0 to 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": -1}, "min_p"),
        ({"top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"n": 0}, "n is 0; it must be from 1 to 128"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5, more than max_tokens, 4"),
        ({"logprobs": 21}, "logprobs is 21; it must be from 0 to 20"),
        ({"logit_bias": {"x": 1.0}}, "logit_bias names 'x'"),
        ({"logit_bias": {"100": 1.0}}, "not a token id below 100"),
        ({"logit_bias": {"9" * 5000: 1.0}}, "not a token id below 100"),
        ({"logit_bias": {"1": 101.0}}, "from -100 to 100"),
        ({"stop": [""]}, "stop string"),
        ({"stop": ["x"] * 65}, "stop strings"),
        ({"stop_token_ids": [100]}, "stop_token_ids"),
        ({"structured": {}}, "structured has the keys"),
        ({"structured": {"regex": "a", "json_object": True}}, "give exactly one of"),
        ({"structured": {"xml": "a"}}, "xml"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tool_choice": "perhaps"}, "perhaps"),
        ({"task": "dance"}, "dance"),
        ({"seed": 1 << 64}, "seed"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(given, words):
    with pytest.raises(InvalidInput, match=words):
        parse(given, 100)


def test_one_stop_string_may_come_without_a_list():
    assert parse({"stop": "x"}, 100).stops == ("x",)
    assert parse({"stop": ["x", "y"]}, 100).stops == ("x", "y")
    assert parse({}, 100).stops == ()


def test_a_seed_is_taken_or_made_of_the_requests_key():
    assert parse({"seed": 7}, 100).seed_for(1) == 7
    assert parse({"seed": -1}, 100).seed_for(1) == (1 << 64) - 1
    unseeded = parse({}, 100)
    assert unseeded.seed_for(1) == unseeded.seed_for(1) != unseeded.seed_for(2)


VALUES = (
    *(None, True, False, 0, 1, -1, 2, 20, 128, 1 << 63, -(1 << 70)),
    *(1e9, -1e9, 0.5, float("nan"), float("inf")),
    *("", "x", "auto", "required", "generate", "embed", "tokenize", "detokenize", "mean"),
    *([], [1], ["a"], [[]], [{"type": "function", "function": {"name": "f"}}]),
    *({}, {"1": 1.0}, {"regex": "a"}, {"choice": ["ab", "c"]}, {"name": "f"}, {"a": [{}]}),
)
INPUTS = (
    tokens_input([1, 2, 3]),
    tokens_input(range(60)),
    tokens_input([]),
    tokens_input([300]),
    text_input("hello"),
    text_input(b"\xfe\x00"),
    text_input('[{"role": "u", "content": "x"}]', "messages"),
    {},
)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_is_answered_or_refused(seed):
    rng, rig = random.Random(seed), Rig()
    names = [*SamplingParams.__struct_fields__, "bogus"]
    for _ in range(400):
        parameters = {rng.choice(names): rng.choice(VALUES) for _ in range(rng.randrange(4))}
        try:
            rig.submit(rng.choice(INPUTS), **{"max_tokens": rng.randrange(1, 9)} | parameters)
        except (InvalidInput, Overloaded):
            continue
        for _ in range(rng.randrange(3)):
            rig.step()
    rig.run()
    assert rig.ended.keys() == rig.events.keys()
    assert all(event.final or isinstance(event.error, InvalidInput) for event in rig.ended.values())
