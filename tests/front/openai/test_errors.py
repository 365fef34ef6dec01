# SPDX-License-Identifier: BUSL-1.1
"""What is said of wrong requests, and of failures before and inside a stream."""

from __future__ import annotations

import json

import httpx
import pytest

from mlos_core import errors

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
TALK = {"model": "team/tiny", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "team/tiny", "prompt": "hi"}


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        (CHAT, {**TALK, "temprature": 1}, "temprature", "did you mean temperature?"),
        (CHAT, {"model": "team/tiny"}, "messages", "missing required"),
        (CHAT, {**TALK, "temperature": "hot"}, "temperature", "got `str`"),
        (CHAT, {**TALK, "temperature": -1}, "temperature", ">= 0"),
        (CHAT, {**TALK, "top_p": 0}, "top_p", "> 0"),
        (CHAT, {**TALK, "n": 0}, "n", ">= 1"),
        (CHAT, {**TALK, "seed": 2**70}, "seed", "<= 9223372036854775807"),
        (CHAT, {**TALK, "max_tokens": 2**40}, "max_tokens", "<= 2147483647"),
        (CHAT, {**TALK, "max_tokens": 1.5}, "max_tokens", "got `float`"),
        (CHAT, {**TALK, "logit_bias": {"x": 1}}, "logit_bias", "no token id"),
        (CHAT, {**TALK, "logit_bias": {"1": 101}}, "logit_bias[...]", "<= 100"),
        (CHAT, {**TALK, "stop": ["a", ""]}, "stop", "empty string"),
        (CHAT, {**TALK, "stream_options": {}}, "stream_options", "stream: true"),
        (CHAT, {**TALK, "stream": True, "stream_options": {"x": 1}}, "stream_options.x", "x"),
        (CHAT, {**TALK, "top_logprobs": 2}, "top_logprobs", "logprobs: true"),
        (CHAT, {**TALK, "logprobs": True, "top_logprobs": 21}, "top_logprobs", "<= 20"),
        (CHAT, {**TALK, "functions": [{"name": "f"}]}, "functions", "not supported"),
        (CHAT, {**TALK, "modalities": ["text", "audio"]}, "modalities", "not supported"),
        (CHAT, {**TALK, "use_beam_search": True}, "use_beam_search", "not supported"),
        (CHAT, {**TALK, "tools": [{"type": "custom"}]}, "tools[0]", "'custom'"),
        (CHAT, {**TALK, "tool_choice": "required"}, "tool_choice", "needs tools"),
        (CHAT, {**TALK, "response_format": {"type": "xml"}}, "response_format.type", "xml"),
        (
            CHAT,
            {**TALK, "response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
            "no schema",
        ),
        (CHAT, {**TALK, "structured_outputs": {}}, "structured_outputs", "0 constraints"),
        (
            CHAT,
            {**TALK, "guided_regex": "a", "guided_choice": ["b"]},
            "guided_choice",
            "exclude each other",
        ),
        (CHAT, {**TALK, "guided_choice": []}, "guided_choice", "empty"),
        (CHAT, {**TALK, "messages": ["hi"]}, "messages[0]", "got `str`"),
        (TEXT, {**PROMPT, "suffix": "end"}, "suffix", "not supported"),
        (TEXT, {**PROMPT, "best_of": 3}, "best_of", "not supported"),
        (TEXT, {**PROMPT, "prompt": []}, "prompt", "empty"),
        (TEXT, {**PROMPT, "prompt": [1, "a"]}, "prompt", "no token id"),
        (TEXT, {**PROMPT, "prompt": [1, -1]}, "prompt", "no token id"),
        (TEXT, {**PROMPT, "prompt": [[1], [2**31]]}, "prompt[1]", "no token id"),
        (TEXT, {**PROMPT, "prompt": [{}]}, "prompt[0]", "neither"),
        (TEXT, {**PROMPT, "prompt": ["x"] * 2049}, "prompt", "2049 prompts"),
        (TEXT, {**PROMPT, "echo": True, "logprobs": 1}, "logprobs", "echoed"),
        (TEXT, {**PROMPT, "model": "encoder"}, "model", "does not serve completions"),
        (CHAT, {**TALK, "model": "plain"}, "model", "does not serve chat"),
        ("/v1/embeddings", {"input": "a"}, "model", "team/tiny, encoder, bert"),
        ("/v1/embeddings", {"model": "encoder", "input": []}, "input", "empty"),
        ("/tokenize", {"model": "encoder"}, "prompt", "either"),
        ("/detokenize", {"model": "encoder", "tokens": [True]}, "tokens", "no token id"),
    ],
)
def test_a_wrong_field_is_named(refused, service, path, body, param, said):
    answer, error = refused(path, **body)
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert said in error["message"]
    assert service.asked == []


@pytest.mark.parametrize(
    "field",
    [
        {"store": True},
        {"metadata": {"a": "b"}},
        {"service_tier": "auto"},
        {"user": "me"},
        {"parallel_tool_calls": True},
        {"prompt_cache_key": "k"},
        {"safety_identifier": "s"},
        {"use_beam_search": False},
        {"priority": 0},
        {"modalities": ["text"]},
        {"verbosity": "low"},
    ],
)
def test_a_field_that_changes_nothing_is_accepted(chat, service, field):
    chat(**field)
    assert service.asked[0][2] == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(client, body):
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(refused, client):
    for path, body in ((CHAT, TALK), (TEXT, PROMPT)):
        answer, error = refused(path, **{**body, "model": "none"})
        assert answer.status_code == 404
        assert (error["code"], error["param"]) == ("model_not_found", "model")
    answer = client.get("/v1/models/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_an_unknown_route_is_answered_in_openais_shape(client):
    answer = client.post("/v1/responses", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_route"
    assert answer.json()["error"]["param"] is None
    answer = client.get("/v1/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_that_is_too_large_is_refused(client):
    body = {**PROMPT, "prompt": "x" * (2 << 20)}
    answer = client.post(TEXT, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("code", "kind"), sorted(errors.BY_CODE.items()))
def test_what_the_worker_refuses_has_its_status(refused, service, code, kind, stream):
    service.refuse = errors.from_wire(code, "it failed", "do something")
    answer, error = refused(CHAT, **TALK, stream=stream)
    status = 400 if code == "unsupported" else kind.http_status
    assert answer.status_code == status
    assert error["message"] == "it failed (do something)"
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    lasting = status >= 500 and (not kind.retryable or status == 504)
    assert (answer.headers.get("x-should-retry") == "false") == lasting


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("bad parameters: Expected `int` - at `$.top_k`", "top_k"),
        ("min_p is 2; it must be from 0 to 1", "min_p"),
        ("stop takes up to 64 strings", "stop"),
        ("messages[1].content[0] is of the type 'image_url'", "messages[1].content[0]"),
        ("the prompt has 9000 tokens", None),
    ],
)
def test_the_workers_word_on_a_parameter_names_it(refused, service, said, param):
    service.refuse = errors.InvalidInput(said)
    assert refused(CHAT, **TALK)[1]["param"] == param


@pytest.mark.parametrize(("path", "body"), [(CHAT, TALK), (TEXT, {**PROMPT, "prompt": ["a", "b"]})])
def test_an_error_inside_a_stream_is_its_last_event(client, service, path, body):
    service.fail_at = 3
    answer = client.post(path, json={**body, "stream": True})
    assert answer.status_code == 200
    *_, last, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["message"] == "the model fell over (pick it up)"
    assert error["type"] == "server_error"


def test_an_error_on_the_way_to_a_whole_answer_is_the_answer(refused, service):
    service.fail_at = 3
    answer, error = refused(TEXT, **{**PROMPT, "prompt": ["a", "b"]})
    assert (answer.status_code, error["code"]) == (500, "model_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_ends_a_generation(client, service, stream):
    service.wait_at = 2
    headers = {"x-mlos-timeout": "0.05"}
    answer = client.post(CHAT, json={**TALK, "stream": stream}, headers=headers)
    assert "deadline_exceeded" in answer.text
    assert answer.status_code == (200 if stream else 504)
    assert service.cancelled.wait(30)


def test_a_generation_has_more_time_than_other_requests(chat, service):
    chat()
    assert service.asked[0][3] == 600


@pytest.mark.parametrize("body", [TALK, {**TALK, "stream": True}])
def test_a_client_that_leaves_cancels_its_request(client, service, body):
    service.wait_at = 3
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=body, timeout=httpx.Timeout(10, read=0.2))
    assert service.cancelled.wait(30)


def test_a_client_that_leaves_cancels_all_its_prompts(client, service):
    service.wait_at = 2
    body = {**PROMPT, "prompt": ["a", "b", "c"], "stream": True}
    with pytest.raises(httpx.ReadTimeout):
        client.post(TEXT, json=body, timeout=httpx.Timeout(10, read=0.2))
    assert service.cancelled.wait(30)
    client.get("/health")  # answered after the generators were closed
    assert service.running == 0


def test_the_clients_name_for_a_request_is_kept_if_it_is_harmless(client):
    answer = client.post(CHAT, json=TALK, headers={"x-request-id": "my-1"})
    assert answer.headers["x-request-id"] == "my-1"
    assert answer.json()["id"] == "chatcmpl-my-1"
    answer = client.post(CHAT, json={}, headers={"x-request-id": "a b"})
    assert answer.headers["x-request-id"].startswith("req-")
