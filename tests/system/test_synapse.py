# SPDX-License-Identifier: BUSL-1.1
"""A real language model behind a real daemon: streams, crowds, ends, and deaths."""

import asyncio
import concurrent.futures
import random
import tempfile
from pathlib import Path

import pytest

from mlos_core.client import connect, connect_async
from mlos_core.errors import InvalidInput
from tests.conftest import Daemon

from .stream_kills import SETTINGS, Judge, ask, gone, plain, register, strike, worker

pytest.importorskip("mlos_plugin_synapse")
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

GREEDY = {"temperature": 0, "max_tokens": 16}


@pytest.fixture(scope="module")
def daemon(smollm2):
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        running = Daemon(Path(name), {}).start(**SETTINGS)
        try:
            register(running, smollm2, kv_memory="24MiB", max_waiting=128)
            yield running
        finally:
            clean = running.clean_up()
        assert clean


@pytest.fixture
def client(daemon):
    with daemon.connect() as client:
        yield client


@pytest.fixture
def model(client):
    return client.model("llm", timeout=120)


@pytest.fixture(scope="module")
def judge(daemon):
    with daemon.connect() as client:
        yield Judge(client.model("llm", timeout=120), 16)


def settled(client):
    """Nothing runs any more: how many blocks are in use."""
    return client.call("stats", name="llm")["llm"]["engine"]["num_requests_running"]


def test_the_model_knows_a_capital(model):
    with model.infer({"text": [b"The capital of France is"]}, parameters=GREEDY) as result:
        assert result["text"][0].startswith(b" Paris")
        assert result["tokens"].tolist()[0] == 7042
        assert result.parameters["usage"]["prompt_tokens"] == 5


def test_a_chat_is_answered_by_the_template(model):
    chat = b'[{"role": "user", "content": "What is the capital of France?"}]'
    events, texts = ask_chat(model, chat)
    assert b"Paris" in texts[0]
    assert events[-1]["f"] in ("stop", "length")


def ask_chat(model, chat):
    stream = model.stream({"messages": [chat]}, parameters={"temperature": 0, "max_tokens": 24})
    events = [plain(event) for event in stream]
    with stream.result as result:
        return events, [bytes(text) for text in result["text"]]


def test_a_stream_is_its_final_text_in_pieces(model, judge):
    events, texts = judge.expected(0)
    assert "".join(event["s"] for event in events).encode() == texts[0]
    assert [len(event["t"]) for event in events] == [1] * 16
    with model.infer({"text": [judge.requests[0][0].encode()]}, parameters=GREEDY) as result:
        assert result["text"].tolist() == texts


def test_clients_at_once_get_what_each_gets_alone(daemon, judge):
    """More than fit into the cache at once, so that some are preempted."""
    chosen = [index * 5 % len(judge.requests) for index in range(14)]
    expected = [judge.expected(index) for index in chosen]

    def one(index):
        with connect(daemon.socket) as client:
            return ask(client.model("llm", timeout=120), judge.requests[index])

    with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        assert list(pool.map(one, chosen)) == expected


def test_the_asyncio_client_gets_the_same(daemon, judge):
    async def all_of_them(chosen):
        async with await connect_async(daemon.socket) as client:
            model = await client.model("llm", timeout=120)
            return await asyncio.gather(*(stream(model, judge.requests[i]) for i in chosen))

    async def stream(model, request):
        prompt, parameters = request
        events = model.stream({"text": [prompt.encode()]}, parameters=parameters)
        return [plain(event) async for event in events]

    chosen = [0, 7, 14]
    assert asyncio.run(all_of_them(chosen)) == [judge.expected(index)[0] for index in chosen]


def test_a_cancelled_stream_ends_and_the_others_go_on(client, model, judge):
    stream = model.stream({"text": [b"Count to a million: 1, 2,"]}, parameters={"ignore_eos": True})
    next(stream)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(ask, model, judge.requests[2])
        stream.close()
        assert other.result(120) == judge.expected(2)
    while settled(client):
        pass


def test_a_slow_reader_loses_nothing_and_holds_nobody_up(model, judge):
    """Twenty alternatives for each token soon fill the stream's ring."""
    parameters = {"seed": 4, "logprobs": 20, "max_tokens": 90, "ignore_eos": True}
    request = ("A list of fruit: apple,", parameters)
    expected, _ = ask(model, request)
    slow = model.stream({"text": [request[0].encode()]}, parameters=parameters)
    events = [plain(next(slow))]
    for index in (0, 3):
        assert ask(model, judge.requests[index]) == judge.expected(index)
    events += [plain(event) for event in slow]
    assert events == expected


def test_a_prompt_longer_than_the_context_or_the_cache_is_told_the_numbers(model):
    with pytest.raises(InvalidInput, match=r"has 20000 tokens; the model's context has 8192"):
        model.infer({"tokens": [1] * 20000})
    with pytest.raises(InvalidInput, match=r"has 8000 tokens; the KV cache holds \d+"):
        model.infer({"tokens": [1] * 8000})


def test_wrong_parameters_are_told(model):
    with pytest.raises(InvalidInput, match="did you mean 'temperature'"):
        model.infer({"text": [b"x"]}, parameters={"temprature": 1})
    with pytest.raises(InvalidInput, match="exactly one of"):
        model.infer({"text": [b"x"], "tokens": [1]})


def test_an_answer_has_the_form_that_was_asked_for(model):
    parameters = {"structured": {"choice": ["red", "green", "blue"]}, "seed": 1}
    with model.infer({"text": [b"My favourite colour is "]}, parameters=parameters) as result:
        assert result["text"][0] in (b"red", b"green", b"blue")


def test_tokens_and_text_are_each_others_inverse(model):
    text = "Grüße, 世界! 🙂".encode()
    with model.infer({"text": [text]}, parameters={"task": "tokenize"}) as result:
        tokens = result["tokens"].copy()
    with model.infer({"tokens": tokens}, parameters={"task": "detokenize"}) as result:
        assert result["text"].tolist() == [text]


def test_texts_of_one_meaning_have_near_vectors(model):
    def vector(text):
        parameters = {"task": "embed", "pooling": "mean"}
        with model.infer({"text": [text]}, parameters=parameters) as result:
            return result["embedding"].copy()

    cat, kitten, tax = map(vector, (b"The cat sleeps.", b"A cat is asleep.", b"VAT rates in 2019"))
    assert cat @ cat == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > cat @ tax


@pytest.mark.parametrize("company", [0, 2, 5])
def test_streams_survive_the_death_of_their_worker(daemon, client, model, judge, company):
    rng = random.Random(company + 100)
    before = len(daemon.journal.events("worker_gone", model="llm"))
    for kill in range(2):
        strike(client, model, judge, rng, company)
        gone(daemon, before + kill + 1)
        worker(client)
