# SPDX-License-Identifier: BUSL-1.1
"""A client process that asks while versions change: `python swap_client.py JOB`, JOB in JSON.

It asks in closed loop until SIGTERM; its turns are pairs of a model and a way to ask. It
writes a line when the first answers are there, and after SIGUSR1 when 20 more are. At its end
it leaves a report in JSON: answers, by whom they were made and when, what went wrong, and a
histogram of latencies for each phase of the run, which it reads from a shared page.
"""

import asyncio
import collections
import http.client
import json
import math
import mmap
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from swap_answers import EVENTS, KINDS, Stale, Wrong

from mlos_core.client import connect, connect_async
from mlos_core.errors import DeadlineExceeded, MlosError

SMALL = {"slots": 16, "request_bytes": 1 << 20, "reply_bytes": 1 << 20}
BUCKETS = 64  # per factor e: a bucket is 1.6 % wide
MOST_FAULTS = 20


class Book:
    """What one client has to say at its end."""

    def __init__(self, page):
        self.page = page
        self.answers = 0
        self.counts = collections.Counter()
        self.makers = {}
        self.faults = []
        self.latencies = {}
        self.milestone = 1

    def expect_more(self, *_):
        self.milestone = self.answers + 20

    def answered(self, model, way, began, maker):
        """One right answer to what was asked at `began`, a pair of time and phase."""
        sent, phase = began
        now = time.monotonic_ns()
        self._count(way, max(phase, self.page[0]), now - sent)
        seen = self.makers.setdefault(model, {}).setdefault(maker, [now, sent, 0])
        seen[1] = max(seen[1], sent)
        seen[2] += 1
        self.answers += 1
        if self.answers == self.milestone:
            print("answered", flush=True)

    def _count(self, way, phase, took):
        histogram = self.latencies.setdefault(f"{way} {phase}", collections.Counter())
        histogram[int(math.log(took) * BUCKETS)] += 1

    def fault(self, model, error):
        kind = "failed"
        if isinstance(error, Stale):
            kind = "duplicate"
        elif isinstance(error, Wrong):
            kind = "wrong"
        elif isinstance(error, DeadlineExceeded | TimeoutError):
            kind = "lost"
        self.counts[kind] += 1
        if len(self.faults) < MOST_FAULTS:
            code = getattr(error, "code", "")
            self.faults.append([time.monotonic_ns(), model, kind, code, str(error)])

    def report(self):
        makers = {
            model: [[list(maker), *seen] for maker, seen in found.items()]
            for model, found in self.makers.items()
        }
        return {
            "answers": self.answers,
            "counts": self.counts,
            "makers": makers,
            "faults": self.faults,
            "latencies": self.latencies,
        }


class Asker:
    """Takes turns; a subclass knows a way to ask."""

    def __init__(self, job, book):
        self.job = job
        self.book = book
        self.kinds = {name: KINDS[name]() for name, _ in job["turns"]}
        self.asked = 0
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGUSR1, book.expect_more)

    def stop(self, *_):
        self.stopping = True

    def turns(self):
        while not self.stopping:
            yield from self.job["turns"]

    def next(self, model, size=0):
        """Another question, and when it was asked."""
        self.asked += 1
        kind = self.kinds[model]
        sizes = kind.sizes[: self.job.get("sizes", 9)]
        size = size or sizes[self.asked % len(sizes)]
        return kind.ask(self.job["seed"], self.asked, size), self.now()

    def now(self):
        return time.monotonic_ns(), self.book.page[0]

    def settle(self, model, way, began, sent, outputs):
        self.book.answered(model, way, began, self.kinds[model].judge(sent, outputs))


class Sync(Asker):
    def run(self):
        with connect(self.job["socket"]) as client:
            names = {name for name, _ in self.job["turns"]}
            models = {n: client.model(n, timeout=self.job["timeout"], **SMALL) for n in names}
            for name, way in self.turns():
                try:
                    getattr(self, way)(name, models[name])
                except (MlosError, Wrong) as error:
                    self.book.fault(name, error)

    def infer(self, name, model):
        sent, began = self.next(name)
        with model.infer(sent) as result:
            self.settle(name, "memory", began, sent, result)

    def prepare(self, name, model):
        sent, began = self.next(name)
        call = model.prepare(sent)
        try:
            for _ in range(5):
                self.settle(name, "memory", began, sent, call())
                sent, began = self.next(name, len(sent["x"]))
                call.inputs["x"][:] = sent["x"]
        finally:
            call.close()

    def submit(self, name, model):
        asked = []
        for _ in range(4):
            sent, began = self.next(name)
            asked.append((sent, began, model.submit(sent)))
        for sent, began, future in asked:
            with future.result() as result:
                self.settle(name, "memory", began, sent, result)

    def stream(self, name, model):
        sent, began = self.next(name)
        stream = model.stream(sent, parameters={"count": EVENTS})
        self.kinds[name].judge_events(sent, list(stream))
        with stream.result as result:
            self.settle(name, "stream", began, sent, result)


class Async(Asker):
    def run(self):
        asyncio.run(self.main())

    async def main(self):
        async with await connect_async(self.job["socket"]) as client:
            models = {}
            for name in {name for name, _ in self.job["turns"]}:
                models[name] = await client.model(name, timeout=self.job["timeout"], **SMALL)
            for name, way in self.turns():
                ask, times = getattr(self, way), 3 if way == "infer" else 1
                await asyncio.gather(*(self.one(ask, name, models[name]) for _ in range(times)))

    async def one(self, ask, name, model):
        try:
            await ask(name, model)
        except (MlosError, Wrong) as error:
            self.book.fault(name, error)

    async def infer(self, name, model):
        sent, began = self.next(name)
        with await model.infer(sent) as result:
            self.settle(name, "memory", began, sent, result)

    async def stream(self, name, model):
        sent, began = self.next(name)
        events = [e async for e in model.stream(sent, parameters={"count": EVENTS})]
        self.kinds[name].judge_events(sent, events)
        # The asyncio client hands out no final answer: the events must be the whole.
        self.book.answered(name, "stream", began, ())


class Http(Asker):
    def run(self):
        address = self.job["http"].removeprefix("http://")
        self.connection = http.client.HTTPConnection(address, timeout=self.job["timeout"])
        for name, way in self.turns():
            try:
                getattr(self, way)(name)
            except (OSError, http.client.HTTPException, Wrong, Refused) as error:
                self.book.fault(name, error)
                self.connection.close()  # the next request opens it again
        self.connection.close()

    def post(self, name, body, accept):
        headers = {"content-type": "application/json", "accept": accept}
        path = f"/api/v1/models/{name}/infer"
        self.connection.request("POST", path, json.dumps(body), headers)
        with self.connection.getresponse() as response:
            content = response.read().decode()
            if response.status != 200:
                raise Refused(response.status, content)
            return content

    def infer(self, name):
        sent, began = self.next(name)
        body = {"inputs": {key: value.tolist() for key, value in sent.items()}}
        answer = json.loads(self.post(name, body, "application/json"))
        self.settle(name, "http", began, sent, answer["outputs"])

    def stream(self, name):
        sent, began = self.next(name)
        prompt = [sent["prompt"][0].decode()]
        body = {"inputs": {"prompt": prompt}, "parameters": {"count": EVENTS}}
        text = self.post(name, body, "text/event-stream")
        events, ends = [], []
        for block in filter(None, text.split("\n\n")):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            (ends if "event" in fields else events).append(json.loads(fields["data"]))
        if len(ends) != 1 or "error" in ends[0]:
            raise Refused(200, str(ends))
        self.kinds[name].judge_events(sent, events)
        self.book.answered(name, "stream", began, ())


class Refused(Exception):
    """What HTTP answered instead."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:300]}")
        self.code = str(status)


def main():
    job = json.loads(sys.argv[1])
    with Path(job["page"]).open("rb") as file:
        page = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
    book = Book(page)
    {"sync": Sync, "async": Async, "http": Http}[job["client"]](job, book).run()
    Path(job["report"]).write_text(json.dumps(book.report()))


if __name__ == "__main__":
    main()
