# SPDX-License-Identifier: BUSL-1.1
"""Completions: prompts in every form, their answers merged."""

from __future__ import annotations

import pytest

from tests.front.openai.conftest import chunks


def test_an_answer_has_openais_form(complete, service):
    body = complete().json()
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [
        {
            "index": 0,
            "text": "Hello wörld!",
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": 99,
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 6,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert service.asked[0][2] == {"max_tokens": 16}


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("hé", [{"text": ["hé".encode()]}]),
        (["a", "b"], [{"text": [b"a"]}, {"text": [b"b"]}]),
        ([1, 2], [{"tokens": [1, 2]}]),
        ([[1, 2], [3]], [{"tokens": [1, 2]}, {"tokens": [3]}]),
        (["a", [3]], [{"text": [b"a"]}, {"tokens": [3]}]),
    ],
)
def test_a_prompt_is_text_or_tokens_or_a_list_of_them(complete, service, prompt, inputs):
    body = complete(prompt).json()
    asked = [
        {name: array.tolist() for name, array in sent.items()} for _, sent, _, _ in service.asked
    ]
    assert asked == inputs
    assert len(body["choices"]) == len(inputs)


def test_the_choices_of_several_prompts_are_numbered_through(complete):
    body = complete(["one", "two two", "three three three"], n=2, echo=True).json()
    texts = [choice["text"].removesuffix("Hello wörld!") for choice in body["choices"]]
    assert texts == ["one", "one", "two two", "two two", *["three three three"] * 2]
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    assert body["usage"]["prompt_tokens"] == 6
    assert body["usage"]["completion_tokens"] == 36


def test_many_prompts_take_turns(complete, service):
    body = complete([f"p{number}" for number in range(100)], echo=True).json()
    assert [c["text"].split("Hel")[0] for c in body["choices"]] == [f"p{n}" for n in range(100)]
    assert service.most <= 32


def test_log_probabilities_are_lists(complete):
    found = complete(logprobs=2).json()["choices"][0]["logprobs"]
    assert found["tokens"] == ["Hel", "lo", "", " wörld", "!"]
    assert found["text_offset"] == [0, 3, 5, 5, 11]
    assert found["token_logprobs"] == [-0.5] * 5
    assert found["top_logprobs"][0] == {"Hel": -0.5, "\ufffd": -1.5}
    found = complete(logprobs=0).json()["choices"][0]["logprobs"]
    assert found["top_logprobs"][0] == {"Hel": -0.5}


def test_a_stream_gives_the_text_in_pieces(complete):
    found = chunks(complete(stream=True, stream_options={"include_usage": True}))
    assert [c["choices"][0]["text"] for c in found[:-1]] == ["Hel", "lo", " wörld", "!", ""]
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-1]["usage"]["total_tokens"] == 10


def test_a_stream_of_several_prompts_tells_them_apart(complete):
    texts = {}
    for chunk in chunks(complete(["x", "y"], n=2, stream=True, echo=True)):
        (choice,) = chunk["choices"]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == {n: "xxyy"[n] + "Hello wörld!" for n in range(4)}


def test_offsets_go_on_through_a_stream(complete):
    found = chunks(complete(stream=True, logprobs=0))
    pieces = [c["choices"][0]["logprobs"] for c in found if c["choices"][0]["logprobs"]]
    assert [piece["text_offset"][0] for piece in pieces] == [0, 3, 5, 5, 11]


def test_a_form_may_be_asked_for(complete, service):
    complete(structured_outputs={"choice": ["yes", "no"]})
    assert service.asked[0][2]["structured"] == {"choice": ["yes", "no"]}
