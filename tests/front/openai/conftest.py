# SPDX-License-Identifier: BUSL-1.1
"""A service whose models speak as text-generating workers do, word by word and predictably."""

from __future__ import annotations

import asyncio
import json
import struct

import numpy as np
import pytest

from mlos_core import errors
from mlos_core.front.limits import Limits
from mlos_core.types import Signature, TensorSpec
from tests.front.conftest import FakeService, Result, Running

TEXT = TensorSpec("text", "bytes", (1,), optional=True)
TOKENS = TensorSpec("tokens", "int32", (-1,), optional=True)
MESSAGES = TensorSpec("messages", "bytes", (1,), optional=True)
LLM = Signature(
    (TEXT, TOKENS, MESSAGES),
    (),
    streaming=True,
    tasks=("generate", "chat", "embed", "tokenize"),
)
MODELS = {
    "team/tiny": LLM,
    "encoder": Signature((TEXT, TOKENS), (), streaming=True, tasks=("embed", "tokenize")),
    "bert": Signature(
        (TensorSpec("text", "bytes", (-1,)),),
        (TensorSpec("embedding", "float32", (-1, 4)), TensorSpec("tokens", "int32", (-1,))),
        batched=True,
        tasks=("embed",),
    ),
    "plain": Signature((TensorSpec("x", "float32", (-1,)),), ()),
}
WORDS = ["Hel", "lo", "", " wörld", "!"]
STATISTICS = {
    "num_requests_running": 3.0,
    "num_requests_waiting": 1.0,
    "kv_cache_usage_perc": 0.25,
    "prompt_tokens_total": 100.0,
    "generation_tokens": 50.0,
    "request_success_total_stop": 4.0,
    "request_success_length": 2.0,
    "time_to_first_token_seconds": {
        "buckets": [0.01, 1.0],
        "counts": [2, 5],
        "sum": 3.5,
        "count": 6,
    },
}


def entry(token, word, top):
    alternatives = [[token, -0.5, word], [7, -1.5, b"\xc3"], [8, float("-inf"), "x"]]
    return [-0.5, word, alternatives[:top]]


def events_of(inputs, parameters):
    """The events of one prompt: `WORDS` for each choice, a token each."""
    prompt = len(inputs["tokens"]) if "tokens" in inputs else len(_text(inputs).split())
    yield {"p": prompt, "c": prompt // 2}
    words = list(WORDS)
    if parameters.get("echo"):
        words[0] = _text(inputs) + words[0]
    if (form := parameters.get("structured")) is not None:
        words = [json.dumps(form)]
    calls = _calls(parameters)
    limit = parameters.get("max_tokens", len(words))
    for choice in range(parameters.get("n", 1)):
        for number, word in enumerate(words[:limit]):
            event = {"i": choice, "t": [number], "s": word}
            if calls:
                event["s"] = ""
            if (top := parameters.get("logprobs")) is not None:
                event["l"] = [entry(number, word, top)]
            yield event
        if calls:
            yield {"i": choice, "t": [], "s": "", "tc": calls, "f": "tool_calls", "r": None}
        elif limit < len(words):
            yield {"i": choice, "f": "length", "r": None}
        else:
            yield {"i": choice, "t": [99], "s": "", "f": "stop", "r": 99}


def _text(inputs):
    (name,) = inputs
    return inputs[name][0].decode()


def _calls(parameters):
    choice = parameters.get("tool_choice", "none")
    if choice == "none":
        return []
    name = (
        choice["name"] if isinstance(choice, dict) else parameters["tools"][0]["function"]["name"]
    )
    return [{"index": i, "name": name, "arguments": '{"city": "Rom"}'} for i in range(2)]


class Model:
    """One attached model."""

    def __init__(self, name, service):
        self.signature = MODELS[name]
        self.name = name
        self.closed = False
        self.service = service

    async def stream(self, inputs, *, timeout, parameters):
        service = self.service
        service.asked.append((self.name, dict(inputs), dict(parameters), timeout))
        if service.refuse is not None:
            raise service.refuse
        service.running += 1
        service.most = max(service.most, service.running)
        try:
            for number, event in enumerate(events_of(inputs, parameters)):
                if number == service.fail_at:
                    raise errors.ModelFailed("the model fell over", hint="pick it up")
                if number == service.wait_at:
                    service.started.set()
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            service.cancelled.set()
            raise
        finally:
            service.running -= 1

    async def infer(self, inputs, *, timeout, parameters, outputs, wait):
        service = self.service
        service.asked.append((self.name, dict(inputs), dict(parameters), timeout))
        if service.refuse is not None:
            raise service.refuse
        return Result(*_reply(inputs, parameters, service.released))

    async def close(self):
        self.closed = True


def _reply(inputs, parameters, released):
    task = parameters.get("task")
    if task is None:
        sizes = np.array([len(text) for text in inputs["text"]], np.int32)
        vectors = np.float32([[3, 4, size, 0] for size in sizes])
        return {"embedding": vectors, "tokens": sizes}, released, {}
    if task == "embed":
        ids = inputs["tokens"].tolist() if "tokens" in inputs else list(inputs["text"][0])
        vector = np.float32([3, 4, sum(ids), 0])
        return {"embedding": vector}, released, {"usage": {"prompt_tokens": len(ids)}}
    if task == "tokenize":
        tokens = np.frombuffer(_text(inputs).encode(), np.uint8).astype(np.int32)
        return {"tokens": tokens}, released, {"context_length": 2048}
    text = np.empty(1, dtype=object)
    text[0] = bytes(inputs["tokens"].tolist())
    return {"text": text}, released, {}


class TextService(FakeService):
    """Hooks: `refuse` is raised at once, `fail_at` and `wait_at` count events of a stream."""

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        self.asked.clear()
        self.released.clear()
        self.started.clear()
        self.cancelled.clear()
        self.refuse = None
        self.fail_at = None
        self.wait_at = None
        self.running = self.most = 0

    async def _attach(self, name, *, version, slots, request_bytes, reply_bytes, timeout):
        self._known(name)
        self.attached.append((name, request_bytes))
        return Model(name, self)

    def _known(self, name):
        if name not in MODELS or name in self.gone:
            raise errors.NotFound(f"no model {name!r}", hint="list the models")

    def info(self, name):
        return {**super().info(name), "signature": MODELS[name], "registered_at": 1234.5}

    async def models(self):
        return [self.info(name) for name in MODELS if name not in self.gone]

    async def stats(self, name="", histograms=False):
        return {"team/tiny": {**(await super().stats())["add"], "engine": STATISTICS}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One front end and one client for all tests of a file."""
    running = Running(TextService(), tmp_path_factory.mktemp("front"), Limits(body=1 << 20))
    try:
        with running.client() as client:
            yield running, client
    finally:
        running.stop()


@pytest.fixture
def front(shared):
    return shared[0]


@pytest.fixture
def client(shared):
    return shared[1]


@pytest.fixture
def service(front):
    front.service.reset()
    return front.service


@pytest.fixture(autouse=True)
def _fresh(service):
    """Every test finds the service as new."""


@pytest.fixture
def post(client):
    """Sends a body; its answer must be good."""

    def send(path, **body):
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer

    return send


@pytest.fixture
def chat(post):
    def send(text="a b c d", **body):
        messages = [{"role": "user", "content": text}]
        return post("/v1/chat/completions", **{"model": "team/tiny", "messages": messages, **body})

    return send


@pytest.fixture
def complete(post):
    def send(prompt="a b c d", **body):
        return post("/v1/completions", **{"model": "team/tiny", "prompt": prompt, **body})

    return send


@pytest.fixture
def refused(client):
    """Sends a body that must be refused; returns status and error."""

    def send(path, headers=None, **body):
        answer = client.post(path, json=body, headers=headers)
        error = answer.json()["error"]
        assert answer.json().keys() == {"error"}
        assert error.keys() == {"message", "type", "param", "code"}
        return answer, error

    return send


def chunks(answer):
    """The data of a stream, whose end must be there."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = answer.text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


def floats(raw):
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
