# SPDX-License-Identifier: BUSL-1.1
"""Chat completions: what reaches the model, and what is made of its events."""

from __future__ import annotations

import json

import pytest

from mlos_core.front.openai.caller import Head
from mlos_core.front.openai.chat_answer import ChatAnswer, ChatChunks
from tests.front.openai.conftest import chunks

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True},
}


def test_an_answer_has_openais_form(chat):
    answer = chat()
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "team/tiny"
    assert body["id"].startswith("chatcmpl-")
    assert answer.headers["x-request-id"].endswith(body["id"].removeprefix("chatcmpl-"))
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello wörld!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": 99,
        }
    ]
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 6
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_sampling_parameters_reach_the_model_and_absent_ones_do_not(chat, service):
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "min_p": 0.1,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "repetition_penalty": 1.1,
        "seed": 7,
        "n": 2,
        "ignore_eos": True,
        "min_tokens": 2,
        "stop_token_ids": [5],
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
        "logit_bias": {"12": -100.0},
        "max_tokens": 3,
        "add_generation_prompt": True,
    }
    chat(**given, stop="x", top_k=-1, chat_template_kwargs={"a": 1}, reasoning_effort="low")
    assert service.asked[0][2] == {
        **given,
        "stop": ["x"],
        "top_k": 0,
        "chat_template_kwargs": {"a": 1, "reasoning_effort": "low"},
    }
    chat(temperature=None, stop=None, n=None, tools=None)
    assert service.asked[1][2] == {}


def test_the_newer_word_for_the_limit_counts_more(chat, service):
    body = chat(max_tokens=4, max_completion_tokens=2).json()
    assert service.asked[0][2]["max_tokens"] == 2
    assert body["choices"][0]["finish_reason"] == "length"


def test_messages_reach_the_model_as_they_are(post, service):
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "é"}], "name": "me"},
        {"role": "assistant", "content": None, "anything": [1]},
    ]
    post("/v1/chat/completions", messages=messages)
    assert json.loads(service.asked[0][1]["messages"][0]) == messages


def test_several_answers_are_told_apart(chat):
    choices = chat(n=3).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in choices} == {"Hello wörld!"}


def test_log_probabilities_name_tokens_bytes_and_alternatives(chat):
    content = chat(logprobs=True, top_logprobs=3).json()["choices"][0]["logprobs"]["content"]
    assert content[3] == {
        "token": " wörld",
        "logprob": -0.5,
        "bytes": list(" wörld".encode()),
        "top_logprobs": [
            {"token": " wörld", "logprob": -0.5, "bytes": list(" wörld".encode())},
            {"token": "\ufffd", "logprob": -1.5, "bytes": [0xC3]},
            {"token": "x", "logprob": -9999.0, "bytes": [ord("x")]},
        ],
    }
    content = chat(logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert content[0]["top_logprobs"] == []


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            {"json": {"a": 1}},
        ),
        ({"structured_outputs": {"regex": "a+"}}, {"regex": "a+"}),
        ({"structured_outputs": {"json": "{}"}}, {"json": "{}"}),
        ({"structured_outputs": {"json_object": True}}, {"json_object": True}),
        ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"guided_json": {"type": "object"}}, {"json": {"type": "object"}}),
        (
            {"guided_grammar": "start: x", "guided_decoding_backend": "auto"},
            {"grammar": "start: x"},
        ),
    ],
)
def test_every_way_to_ask_for_a_form_becomes_one_constraint(chat, service, body, form):
    assert json.loads(chat(**body).json()["choices"][0]["message"]["content"]) == form
    assert service.asked[0][2]["structured"] == form


def test_free_text_is_no_constraint(chat, service):
    chat(response_format={"type": "text"})
    assert "structured" not in service.asked[0][2]


def test_tool_calls_are_answered(chat, service):
    choice = chat(tools=[TOOL]).json()["choices"][0]
    assert service.asked[0][2]["tools"] == [TOOL]
    assert service.asked[0][2]["tool_choice"] == "auto"
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    first, second = choice["message"]["tool_calls"]
    assert first["type"] == "function"
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Rom"}'}
    assert first["id"] != second["id"]
    assert "index" not in first


def test_one_tool_call_alone_may_be_asked_for(chat, service):
    named = {"type": "function", "function": {"name": "weather"}}
    choice = chat(tools=[TOOL], tool_choice=named, parallel_tool_calls=False).json()["choices"][0]
    assert service.asked[0][2]["tool_choice"] == {"name": "weather"}
    assert len(choice["message"]["tool_calls"]) == 1


def test_tools_may_be_offered_and_not_used(chat):
    choice = chat(tools=[TOOL], tool_choice="none").json()["choices"][0]
    assert choice["message"]["content"] == "Hello wörld!"


# --- streams ------------------------------------------------------------------------------


def deltas(answer, index=0):
    choices = [chunk["choices"][0] for chunk in chunks(answer) if chunk["choices"]]
    return [choice for choice in choices if choice["index"] == index]


def test_a_stream_names_the_role_first_and_says_its_end(chat):
    answer = chat(stream=True)
    assert deltas(answer) == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        },
        *(
            {"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None}
            for word in ("Hel", "lo", " wörld", "!")
        ),
        {
            "index": 0,
            "delta": {},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": 99,
        },
    ]
    heads = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks(answer)}
    assert len(heads) == 1
    assert all("usage" not in chunk for chunk in chunks(answer))


def test_the_usage_comes_last_if_asked_for(chat):
    *before, last = chunks(chat(stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 6
    assert all(chunk["usage"] is None for chunk in before)


def test_the_usage_so_far_may_stand_in_every_chunk(chat):
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = chunks(chat(stream=True, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in found]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 6


def test_a_stream_of_several_answers_names_the_role_of_each(chat):
    answer = chat(stream=True, n=2)
    for index in (0, 1):
        found = deltas(answer, index)
        assert found[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in found) == "Hello wörld!"
        assert found[-1]["finish_reason"] == "stop"


def test_a_stream_has_log_probabilities_also_of_tokens_without_text(chat):
    found = deltas(chat(stream=True, logprobs=True, top_logprobs=1))
    content = [c["logprobs"]["content"] for c in found if c["logprobs"]]
    assert [tokens[0]["token"] for tokens in content] == ["Hel", "lo", "", " wörld", "!"]


LONG_CALL = [
    {"i": 0, "t": [1], "s": "", "tc": [{"index": 0, "name": "f", "arguments": '{"a": '}]},
    {"i": 0, "s": "", "tc": [{"index": 0, "arguments": "1}"}]},
    {"i": 0, "s": "", "tc": [{"index": 1, "name": "g", "arguments": "{}"}]},
    {"i": 0, "s": "", "tc": [{"index": 1, "arguments": ""}], "f": "tool_calls", "r": None},
]


def test_a_call_that_came_in_pieces_is_answered_whole():
    answer = ChatAnswer(Head("id", "m", 0), 1, with_logprobs=False, several=True)
    for event in LONG_CALL:
        answer.take(event)
    calls = answer.result().choices[0].message.tool_calls
    found = [(call.type, call.function.name, call.function.arguments) for call in calls]
    assert found == [("function", "f", '{"a": 1}'), ("function", "g", "{}")]


def test_a_call_that_comes_in_pieces_is_named_in_the_first_alone():
    wire = ChatChunks(Head("id", "m", 0), None, several=True)
    frames = b"".join(wire.event(event) for event in LONG_CALL).decode().split("\n\n")
    data = [json.loads(frame.removeprefix("data: ")) for frame in frames[1:-1]]
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in data]
    assert calls[0]["id"].startswith("call_")
    assert calls[0]["function"] == {"name": "f", "arguments": '{"a": '}
    assert calls[1] == {"index": 0, "function": {"arguments": "1}"}}
    assert calls[3] == {"index": 1, "function": {"arguments": ""}}


def test_tool_calls_are_streamed_with_their_numbers(chat):
    last = deltas(chat(stream=True, tools=[TOOL]))[-1]
    assert last["finish_reason"] == "tool_calls"
    assert [call["index"] for call in last["delta"]["tool_calls"]] == [0, 1]
    assert last["delta"]["tool_calls"][0]["function"]["name"] == "weather"
    assert "content" not in last["delta"]
