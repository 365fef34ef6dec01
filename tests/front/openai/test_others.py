# SPDX-License-Identifier: BUSL-1.1
"""Models, embeddings, tokens, the prefix cache's salt, and metrics."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.front.openai.conftest import floats


def test_models_that_serve_text_are_listed(client):
    found = client.get("/v1/models").json()
    assert found["object"] == "list"
    assert [model["id"] for model in found["data"]] == ["team/tiny", "encoder", "bert"]
    one = client.get("/v1/models/team/tiny").json()
    assert one == found["data"][0]
    assert (one["object"], one["created"], one["owned_by"]) == ("model", 1234, "mlos")
    assert client.get("/v1/models/team%2Ftiny").json() == one
    assert client.get("/v1/models/plain").status_code == 404


@pytest.mark.parametrize(
    ("state", "listed"), [("unloaded", True), ("loading", True), ("failed", False)]
)
def test_models_that_are_not_in_memory_are_listed_and_broken_ones_are_not(
    client, service, monkeypatch, state, listed
):
    info = service.info
    monkeypatch.setattr(service, "info", lambda name: {**info(name), "state": state})
    assert bool(client.get("/v1/models").json()["data"]) == listed


def test_the_only_model_need_not_be_named(client, service):
    messages = [{"role": "user", "content": "hi"}]
    answer = client.post("/v1/chat/completions", json={"messages": messages})
    assert answer.json()["model"] == "team/tiny"


def test_a_model_for_text_is_attached_once_with_little_memory(chat, service):
    chat()
    chat(stream=True)
    (room,) = {room for name, room in service.attached if name == "team/tiny"}
    assert room == 4 << 20


def test_an_embedding_is_a_list_of_numbers(post, service):
    body = post("/v1/embeddings", model="encoder", input="ab").json()
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [3.0, 4.0, 195.0, 0.0]}],
        "model": "encoder",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    assert service.asked[0][2] == {"task": "embed"}
    assert service.released == ["released"]


@pytest.mark.parametrize("given", [["a", "bb"], [[97], [98, 98]]])
def test_several_texts_have_an_embedding_each(post, given):
    body = post("/v1/embeddings", model="team/tiny", input=given, user="me").json()
    assert [one["index"] for one in body["data"]] == [0, 1]
    assert [one["embedding"][2] for one in body["data"]] == [97, 196]
    assert body["usage"]["prompt_tokens"] == 3


def test_an_embedding_may_be_base64(post):
    body = post("/v1/embeddings", model="encoder", input=[97], encoding_format="base64").json()
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert floats(raw) == [3.0, 4.0, 97.0, 0.0]


def test_a_shorter_embedding_has_length_one_again(post):
    body = post("/v1/embeddings", model="encoder", input="a", dimensions=2).json()
    assert np.allclose(body["data"][0]["embedding"], [0.6, 0.8])
    body = post("/v1/embeddings", model="encoder", input="a", dimensions=4).json()
    assert body["data"][0]["embedding"] == [3.0, 4.0, 97.0, 0.0]


def test_an_encoder_gets_texts_in_batches(post, service):
    texts = ["x" * (1 + number % 5) for number in range(70)]
    body = post("/v1/embeddings", model="bert", input=texts, normalize=True).json()
    assert [one["embedding"][2] for one in body["data"]] == [len(text) for text in texts]
    assert body["usage"]["prompt_tokens"] == sum(map(len, texts))
    assert [len(inputs["text"]) for _, inputs, _, _ in service.asked] == [32, 32, 6]
    assert service.asked[0][2] == {}


def test_an_encoder_that_takes_text_says_so(refused):
    answer, error = refused("/v1/embeddings", model="bert", input=[1, 2])
    assert (answer.status_code, error["param"]) == (400, "input")
    answer, error = refused("/v1/embeddings", model="bert", input="a", normalize=False)
    assert (answer.status_code, error["param"]) == (400, "normalize")


def test_a_longer_embedding_than_the_models_is_refused(refused):
    answer, error = refused("/v1/embeddings", model="encoder", input="a", dimensions=5)
    assert (answer.status_code, error["param"]) == (400, "dimensions")
    assert "4 dimensions" in error["message"]


def test_text_becomes_tokens_and_text_again(post, service):
    body = post("/tokenize", model="encoder", prompt="hé", add_special_tokens=False).json()
    assert body == {"count": 3, "max_model_len": 2048, "tokens": list("hé".encode())}
    assert service.asked[0][2] == {"task": "tokenize", "add_special_tokens": False}
    assert post("/detokenize", model="encoder", tokens=body["tokens"]).json() == {"prompt": "hé"}


def test_a_conversation_becomes_tokens(post, service):
    messages = [{"role": "user", "content": "hi"}]
    body = post("/tokenize", model="team/tiny", messages=messages, add_generation_prompt=True)
    assert body.json()["count"] > 0
    assert service.asked[0][2] == {"task": "tokenize", "add_generation_prompt": True}
    assert "messages" in service.asked[0][1]


def test_callers_with_different_tokens_or_salts_share_no_prefix(client, service):
    def salt(token, own=None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"model": "team/tiny", "prompt": "x", **({"cache_salt": own} if own else {})}
        assert client.post("/v1/completions", json=body, headers=headers).status_code == 200
        return service.asked[-1][2].get("cache_salt")

    assert salt("") is None
    salts = [salt("a"), salt("b"), salt("", "a"), salt("a", "b"), salt("ab"), salt("a", "c")]
    assert len({*salts, None}) == 7
    assert salt("a") == salts[0]
    assert salts[0] != "a"


def test_engines_statistics_have_vllms_names(client):
    found = {
        (s.name, *sorted((k, v) for k, v in s.labels.items() if k != "model_name")): s.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for s in family.samples
        if s.labels.get("model_name") == "team/tiny"
    }
    assert found["vllm:num_requests_running",] == 3
    assert found["vllm:kv_cache_usage_perc",] == 0.25
    assert found["vllm:prompt_tokens_total",] == 100
    assert found["vllm:request_success_total", ("finished_reason", "stop")] == 4
    assert found["vllm:request_success_total", ("finished_reason", "length")] == 2
    bucket = "vllm:time_to_first_token_seconds_bucket"
    assert [found[bucket, ("le", le)] for le in ("0.01", "1.0", "+Inf")] == [2, 5, 6]
    assert found["vllm:time_to_first_token_seconds_sum",] == 3.5
    assert found["vllm:time_to_first_token_seconds_count",] == 6
