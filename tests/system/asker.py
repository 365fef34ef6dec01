# SPDX-License-Identifier: BUSL-1.1
"""A client process under load: `python asker.py JOB`, JOB in JSON.

It asks in closed loop until SIGTERM, with data that no other request has, and compares
each answer with what was sent. It writes a line when the first answer is there, and after
SIGUSR1 when 20 more are; at its end one line of JSON: answers, what was wrong, and what its
channel still holds.
"""

import asyncio
import json
import random
import signal
import sys

import numpy as np
from mlos_plugin_echo.engine import number_at

from mlos_core.client import connect, connect_async
from mlos_core.errors import MlosError
from mlos_core.ipc.native import check, lib

COLUMNS = (4, 64, 300, 3000)
SMALL = {"slots": 16, "request_bytes": 1 << 20, "reply_bytes": 1 << 20}


class Asker:
    def __init__(self, job):
        self.job = job
        self.random = random.Random(job["seed"])
        self.asked = 0
        self.answers = 0
        self.events = 0
        self.faults = []
        self.stopping = False
        self.usage = {}
        self.milestone = 1
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGUSR1, self.expect_more)

    def stop(self, *_):
        self.stopping = True

    def expect_more(self, *_):
        """Say so when another 20 answers have come."""
        self.milestone = self.answers + 20

    def payload(self):
        """A row whose every element says who asked and for which time."""
        self.asked += 1
        columns = self.random.choice(COLUMNS)
        row = np.arange(columns, dtype=np.float64) + self.job["seed"] * 2.0**40
        return row.reshape(1, columns) + self.asked * 2.0**14

    def prompt(self):
        self.asked += 1
        return f"{self.job['seed']} asks for the {self.asked}th time".encode()

    def answered(self, sent, result):
        if not np.array_equal(result["x"], sent):
            self.fault(f"sent {sent[0, :2]}, got {result['x'][:, :2]} of {result['x'].shape}")
        self.count()

    def streamed(self, prompt, events, final=None):
        expected = [number_at(prompt, 0, at) for at in range(self.job["events"])]
        if events != expected:
            self.fault(f"{prompt!r}: events {events} instead of {expected}")
        if final is not None and final["numbers"].tolist() != expected:
            self.fault(f"{prompt!r}: final answer {final['numbers'].tolist()}")
        self.events += len(events)
        self.count()

    def count(self):
        self.answers += 1
        if self.answers == self.milestone:
            print("answered", flush=True)

    def fault(self, text):
        self.faults.append(text)
        if len(self.faults) > 20:
            self.stopping = True

    def until_stopped(self):
        while not self.stopping:
            yield self

    # --- the ways to ask ------------------------------------------------------------------

    def run(self):
        with connect(self.job["socket"]) as client:
            model = client.model(self.job["model"], timeout=self.job["timeout"], **SMALL)
            model.link()
            if point := self.job.get("point"):
                check(lib.mlos_crash_arm(point.encode(), self.job["passes"]))
            ask = getattr(self, self.job["way"])
            for _ in self.until_stopped():
                try:
                    ask(model)
                except MlosError as err:
                    self.fault(f"{type(err).__name__}: {err}")
            model.link().reap()
            self.usage = model.usage()

    def infer(self, model):
        sent = self.payload()
        with model.infer({"x": sent}) as result:
            self.answered(sent, result)

    def prepare(self, model):
        sent = self.payload()
        call = model.prepare({"x": sent})
        try:
            for _ in range(5):
                self.answered(sent, call())
                sent = sent + 1.0 / 1024
                call.inputs["x"][:] = sent
        finally:
            call.close()

    def submit(self, model):
        sent = [self.payload() for _ in range(4)]
        futures = [model.submit({"x": one}) for one in sent]
        for one, future in zip(sent, futures, strict=True):
            with future.result() as result:
                self.answered(one, result)

    def stream(self, model):
        prompt = self.prompt()
        stream = model.stream({"prompt": [prompt]}, parameters={"count": self.job["events"]})
        events = list(stream)
        self.streamed(prompt, events, stream.result)
        stream.result.release()

    async def run_async(self):
        async with await connect_async(self.job["socket"]) as client:
            model = await client.model(self.job["model"], timeout=self.job["timeout"], **SMALL)
            ask = getattr(self, self.job["way"])
            for _ in self.until_stopped():
                try:
                    await ask(model)
                except MlosError as err:
                    self.fault(f"{type(err).__name__}: {err}")
            model._live().reap()
            self.usage = model.usage()

    async def infer_async(self, model):
        async def one():
            sent = self.payload()
            with await model.infer({"x": sent}) as result:
                self.answered(sent, result)

        await asyncio.gather(*(one() for _ in range(3)))

    async def stream_async(self, model):
        prompt = self.prompt()
        parameters = {"count": self.job["events"]}
        events = [e async for e in model.stream({"prompt": [prompt]}, parameters=parameters)]
        self.streamed(prompt, events)

    def report(self):
        usage = {key: self.usage.get(key) for key in ("slots", "slots_free", "resting", "held")}
        return {"answers": self.answers, "events": self.events, "faults": self.faults, **usage}


def main():
    asker = Asker(json.loads(sys.argv[1]))
    if asker.job["way"].endswith("_async"):
        asyncio.run(asker.run_async())
    else:
        asker.run()
    print(json.dumps(asker.report()), flush=True)


if __name__ == "__main__":
    main()
