# SPDX-License-Identifier: BUSL-1.1
"""The worker of a language model dies in the middle of streams: nobody sees more than a pause.

`python tests/system/stream_kills.py MODEL.gguf --streams 200 --json FILE` does it at length;
the tests do a little of it. Streams, greedy and drawn with a seed, run alone or among others.
When one of them has shown some random number of tokens, the worker is killed. Every stream must
come out event by event as it did when nothing disturbed it.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {"MLOS_MAX_ATTEMPTS": "15", "MLOS_RESTART_LIMIT": "1000000", "MLOS_LOG_LEVEL": "info"}
PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a small village at the foot of a mountain.",
    "def fibonacci(n):\n",
    "Q: Why is the sky blue?\nA:",
    "Une recette de crêpes :",
    "The three laws of robotics are " + "very well known and " * 40,
)
WAYS = (
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.2},
    {"seed": 7},
    {"seed": 11, "temperature": 1.4, "top_p": 0.9, "top_k": 200},
    {"seed": 3, "min_p": 0.05, "presence_penalty": 0.4, "n": 2},
    {"seed": 5, "logprobs": 2, "stop": ["zebra"]},
    {"seed": 2, "structured": {"regex": "( [a-z]+){8,16}[.]"}},
)


def register(daemon, file, **options):
    """The model `llm`."""
    options = {"threads": 2, "kv_memory": "64MiB", "max_num_seqs": 8, **options}
    daemon.call("register", name="llm", path=str(file), plugin="synapse", options=options)


def requests(tokens):
    """Every prompt in every way."""
    return [
        (prompt, {**way, "max_tokens": tokens, "ignore_eos": True})
        for prompt in PROMPTS
        for way in WAYS
    ]


def worker(client):
    """The process that serves the model, as soon as there is one."""
    end = time.monotonic() + 60
    while True:
        workers = client.call("model", name="llm")["workers"]
        for one in workers:
            if one["state"] == "ready":
                return one["pid"]
        assert time.monotonic() < end, workers
        time.sleep(0.01)


def plain(event):
    """An event without what may differ: how much of the prompt was cached."""
    return {name: value for name, value in event.items() if name != "c"}


def ask(model, request, seen=lambda count: None):
    """A stream's events and its final text; `seen` is told at once and after each event."""
    prompt, parameters = request
    stream = model.stream({"text": [prompt.encode()]}, parameters=parameters)
    events = []
    seen(0)
    for event in stream:
        events.append(plain(event))
        seen(len(events))
    with stream.result as result:
        return events, [bytes(text) for text in result["text"]]


class Judge:
    """Knows how every request comes out undisturbed."""

    def __init__(self, model, tokens):
        self._model = model
        self._known = {}
        self.requests = requests(tokens)

    def expected(self, index):
        if index not in self._known:
            self._known[index] = ask(self._model, self.requests[index])
        return self._known[index]


def strike(client, model, judge, rng, company):
    """One kill among `company` other streams; how many streams were in it."""
    chosen = [rng.randrange(len(judge.requests)) for _ in range(1 + company)]
    expected = [judge.expected(index) for index in chosen]
    at = rng.randrange(len(expected[0][0]) + 1)
    victim = worker(client)

    def kill(count):
        if count == at:
            os.kill(victim, signal.SIGKILL)

    with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        first, *others = chosen
        running = [pool.submit(ask, model, judge.requests[index]) for index in others]
        running.insert(0, pool.submit(ask, model, judge.requests[first], kill))
        for index, right, future in zip(chosen, expected, running, strict=True):
            got = future.result(300)
            assert got == right, f"{judge.requests[index]}, killed at {at}: {got} is not {right}"
    return len(chosen)


def gone(daemon, count):
    """Wait until the daemon has noticed that many deaths."""
    daemon.journal.wait("worker_gone", count=count, model="llm")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    conftest = _conftest()
    folder = Path(tempfile.mkdtemp(prefix="mlos-stream-kills-"))
    daemon = conftest.Daemon(folder, {})
    rng = random.Random(args.seed)
    began, streams, kills, alone = time.monotonic(), 0, 0, 0
    try:
        daemon.start(**SETTINGS)
        register(daemon, args.model)
        with daemon.connect() as client:
            model = client.model("llm", timeout=300)
            judge = Judge(model, args.tokens)
            while streams < args.streams:
                company = rng.choice((0, 0, 1, 3, 6))
                streams += strike(client, model, judge, rng, company)
                kills += 1
                alone += not company
                gone(daemon, kills)
                print(f"{kills} kills, {streams} streams, all the same", flush=True)
    finally:
        clean = daemon.clean_up()
        shutil.rmtree(folder)
    assert clean, "a process is left"
    row = {
        "kills": kills,
        "streams": streams,
        "alone": alone,
        "different": 0,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(row, indent=1) + "\n")


def _conftest():
    path = Path(__file__).resolve().parent.parent / "conftest.py"
    sys.path.insert(0, str(path.parent / "support"))
    spec = importlib.util.spec_from_file_location("mlos_tests_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
