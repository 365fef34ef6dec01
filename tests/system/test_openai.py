# SPDX-License-Identifier: BUSL-1.1
"""OpenAI's own client against a real daemon with a language model and a sentence encoder."""

import asyncio
import json
import math
import os
import re
import signal
import tempfile
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import Daemon

from .kills import until

openai = pytest.importorskip("openai")
pytest.importorskip("mlos_plugin_synapse")
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

LLM, ENCODER = "team/smollm2", "minilm"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def daemon(smollm2, minilm):
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        running = Daemon(Path(name), {"MLOS_HTTP": "true", "MLOS_HTTP_PORT": "0"}).start()
        try:
            options = {"threads": 2, "kv_memory": "64MiB", "max_num_seqs": 8}
            plugin = {"plugin": "synapse"}
            running.call("register", name=LLM, path=str(smollm2), options=options, **plugin)
            running.call("register", name=ENCODER, path=str(minilm), **plugin)
            yield running
        finally:
            clean = running.clean_up()
        assert clean


@pytest.fixture(scope="module")
def url(daemon):
    (address, *_) = [a for a in daemon.call("status")["http"] if a.startswith("http://")]
    return address


def make(url, key="a key", kind=openai.OpenAI, http=openai.DefaultHttpxClient):
    http_client = http(trust_env=False)
    return kind(
        base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120, http_client=http_client
    )


@pytest.fixture(scope="module")
def client(url):
    with make(url) as client:
        yield client


@pytest.fixture(scope="module")
def plain(url):
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        yield client


def chat(client, messages=FRANCE, **options):
    given = {"model": LLM, "temperature": 0, "max_tokens": 24, **options}
    return client.chat.completions.create(messages=messages, **given)


def say(client, text, **options):
    return chat(client, [{"role": "user", "content": text}], **options).choices[0]


def test_the_models_are_listed(client):
    assert {model.id for model in client.models.list()} == {LLM, ENCODER}
    assert client.models.retrieve(LLM).owned_by == "mlos"


def test_a_question_is_answered(client):
    answer = chat(client)
    (choice,) = answer.choices
    assert "Paris" in choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens > 20
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_gives_the_same_answer_in_pieces(client):
    whole = chat(client)
    *chunks, last = chat(client, stream=True, stream_options={"include_usage": True})
    deltas = [chunk.choices[0] for chunk in chunks]
    assert deltas[0].delta.role == "assistant"
    text = "".join(choice.delta.content or "" for choice in deltas)
    assert text == whole.choices[0].message.content
    assert len(deltas) > 4
    assert deltas[-1].finish_reason == "stop"
    assert last.usage.completion_tokens == whole.usage.completion_tokens


def test_streams_at_once_give_what_each_gives_alone(url):
    prompts = [f"Count from {number} to {number + 5}:" for number in range(1, 7)]

    async def ask(client, prompt):
        stream = await client.completions.create(
            model=LLM, prompt=prompt, temperature=0, max_tokens=16, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def main():
        async with make(url, "key", openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient) as client:
            alone = [await ask(client, prompt) for prompt in prompts]
            together = await asyncio.gather(*(ask(client, prompt) for prompt in prompts))
        assert together == alone
        assert len(set(alone)) == len(prompts)

    asyncio.run(main())


def test_prompts_are_continued_in_their_order(client):
    prompts = ["One, two, three,", "The capital of France is"]
    answer = client.completions.create(model=LLM, prompt=prompts, temperature=0, max_tokens=4, n=2)
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1]
    assert "four" in texts[0]
    assert texts[2] == texts[3]
    assert "Paris" in texts[2]


def test_tokens_are_taken_for_a_prompt_and_its_text_is_echoed(client, plain):
    prompt = "The capital of France is"
    body = plain.post("/tokenize", json={"model": LLM, "prompt": prompt}).json()
    assert body["count"] == len(body["tokens"]) == 5
    assert body["max_model_len"] == 8192
    answers = [
        client.completions.create(model=LLM, prompt=given, temperature=0, max_tokens=3, echo=echo)
        for given, echo in ((prompt, False), (body["tokens"], False), (prompt, True))
    ]
    text, tokens, echoed = (answer.choices[0].text for answer in answers)
    assert tokens == text
    assert echoed == prompt + text
    back = plain.post("/detokenize", json={"model": LLM, "tokens": body["tokens"]}).json()
    assert back == {"prompt": prompt}


def test_log_probabilities_belong_to_the_tokens(client):
    (choice,) = client.completions.create(
        model=LLM, prompt="One, two, three,", temperature=0, max_tokens=6, logprobs=3
    ).choices
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert found.text_offset == [len("".join(found.tokens[:n])) for n in range(6)]
    for token, chance, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert len(top) == 3
        assert top[token] == chance == max(top.values())
        assert sum(math.exp(one) for one in top.values()) <= 1.000001
    (choice,) = chat(client, logprobs=True, top_logprobs=2).choices
    content = choice.logprobs.content
    shown = b"".join(bytes(token.bytes) for token in content)
    assert shown.decode().startswith(choice.message.content)
    assert all(token.top_logprobs[0].logprob == token.logprob for token in content)


def test_a_seed_gives_the_same_answers_again(client):
    def ask(seed):
        answer = chat(client, temperature=1.2, n=2, seed=seed, max_tokens=16)
        return [choice.message.content for choice in answer.choices]

    first = ask(7)
    assert ask(7) == first
    assert first[0] != first[1]
    assert ask(8) != first


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client):
    choice = say(client, "What is the capital of France?", stop=[" Paris"])
    assert choice.message.content == "The capital of France is"
    assert choice.finish_reason == "stop"
    assert choice.stop_reason == " Paris"


def test_the_limit_ends_the_answer(client):
    choice = say(client, "Tell me a story.", max_completion_tokens=3)
    assert choice.finish_reason == "length"


def test_an_answer_keeps_to_a_schema(client):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    choice = say(client, "Invent a person.", response_format=form, max_tokens=80)
    person = json.loads(choice.message.content)
    assert person.keys() == {"name", "age"}
    assert 0 <= person["age"] <= 120
    choice = say(client, "JSON!", response_format={"type": "json_object"}, max_tokens=200, stop="}")
    assert choice.message.content.startswith("{")


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"regex": "[0-9]{3}-[0-9]{2}"}, r"\d{3}-\d{2}"),
        ({"choice": ["red", "green"]}, "red|green"),
        ({"grammar": 'start: "a" "b"+ "c"'}, "ab+c"),
    ],
)
def test_an_answer_keeps_to_a_form(client, form, pattern):
    choice = say(client, "Say something.", extra_body={"structured_outputs": form})
    assert re.fullmatch(pattern, choice.message.content)
    assert choice.finish_reason == "stop"


def test_a_tool_is_called(client):
    named = {"type": "function", "function": {"name": "get_weather"}}
    options = {"tools": [WEATHER], "max_tokens": 64}
    for choice in ("required", named):
        answer = say(client, "How is the weather in Rome?", tool_choice=choice, **options)
        (call,) = answer.message.tool_calls
        assert call.function.name == "get_weather"
        assert "city" in json.loads(call.function.arguments)
    question = [{"role": "user", "content": "How is the weather in Rome?"}]
    chunks = list(chat(client, question, tool_choice="required", stream=True, **options))
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
    assert calls[0].index == 0
    arguments = "".join(call.function.arguments for call in calls)
    assert arguments == answer.message.tool_calls[0].function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    assert chat(client, [*question, said, result]).choices[0].message.content


@pytest.mark.parametrize(
    ("options", "kind", "param", "said"),
    [
        ({"model": "none"}, openai.NotFoundError, "model", "none"),
        ({"model": ENCODER}, openai.BadRequestError, "model", "does not serve chat"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", ">= 0"),
        ({"logit_bias": {"99999999": 1}}, openai.BadRequestError, "logit_bias", "99999999"),
        ({"extra_body": {"foo": 1}}, openai.BadRequestError, "foo", "unknown"),
        (
            {"extra_body": {"guided_regex": "(("}},
            openai.BadRequestError,
            None,
            "invalid regex",
        ),
        (
            {"messages": [{"role": "alien", "content": ""}]},
            openai.BadRequestError,
            "messages[0]",
            "alien",
        ),
        (
            {"messages": [{"role": "user", "content": "x " * 9000}]},
            openai.BadRequestError,
            None,
            "context has 8192",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_a_typed_exception(client, options, kind, param, said, stream):
    with pytest.raises(kind, match=re.escape(said)) as caught:
        chat(client, **options, stream=stream)
    assert caught.value.param == param
    assert caught.value.request_id
    assert (caught.value.code == "context_length_exceeded") == ("context" in said)


def test_embeddings_of_like_texts_are_near(client):
    texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Stocks fell sharply today."]
    answer = client.embeddings.create(model=ENCODER, input=texts)
    cat, kitten, stocks = (np.array(one.embedding) for one in answer.data)
    assert cat.shape == (384,)
    assert abs(np.linalg.norm(cat) - 1) < 1e-5
    assert cat @ kitten > 0.4 > cat @ stocks
    assert answer.usage.prompt_tokens > 15
    numbers = client.embeddings.create(model=ENCODER, input=texts[0], encoding_format="float")
    assert np.array_equal(np.float32(numbers.data[0].embedding), np.float32(cat))
    short = client.embeddings.create(model=ENCODER, input=texts[0], dimensions=64).data[0].embedding
    assert np.allclose(short, cat[:64] / np.linalg.norm(cat[:64]), atol=1e-6)


def test_a_language_model_embeds_too(client):
    (one,) = client.embeddings.create(model=LLM, input="hello").data
    assert len(one.embedding) == 576


def test_leaving_a_stream_cancels_it(client, daemon):
    def statistics():
        return daemon.call("stats", name=LLM)[LLM]["engine"]

    options = {"max_tokens": 8000, "stream": True, "extra_body": {"ignore_eos": True}}
    with chat(client, **options) as stream:
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
        assert statistics()["num_requests_running"] == 1
    until(lambda: statistics()["num_requests_running"] == 0)
    assert "Paris" in chat(client).choices[0].message.content


def test_a_stream_outlives_its_worker(client, daemon):
    options = {"temperature": 1.1, "seed": 5, "max_tokens": 48, "extra_body": {"ignore_eos": True}}
    whole = chat(client, **options)
    text = ""
    for number, chunk in enumerate(chat(client, stream=True, **options)):
        text += chunk.choices[0].delta.content or ""
        if number == 10:
            (worker,) = daemon.call("model", name=LLM)["workers"]
            os.kill(worker["pid"], signal.SIGKILL)
    assert text == whole.choices[0].message.content
    assert chunk.choices[0].finish_reason == "length"


def test_a_prefix_is_cached_for_its_own_caller_alone(url):
    text = "The same long beginning of a prompt, " * 12

    def cached(key, **options):
        with make(url, key) as client:
            answer = client.completions.create(
                model=LLM, prompt=text, temperature=0, max_tokens=1, **options
            )
        return answer.usage.prompt_tokens_details.cached_tokens

    assert cached("alice") == 0
    assert cached("alice") > 0
    assert cached("bob") == 0
    assert cached("alice", extra_body={"cache_salt": "private"}) == 0


def test_the_engines_figures_are_metrics(client, plain):
    chat(client)
    text = plain.get("/metrics").text
    label = f'{{model_name="{LLM}"}}'
    (tokens,) = re.findall(rf"^vllm:generation_tokens_total{label} (.+)$", text, re.M)
    assert float(tokens) > 0
    assert f"vllm:time_to_first_token_seconds_count{label}" in text
    assert f"vllm:kv_cache_usage_perc{label}" in text
    assert re.search(r'^vllm:request_success_total{finished_reason="stop",', text, re.M)
