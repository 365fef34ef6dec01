# SPDX-License-Identifier: BUSL-1.1
"""The clients of `batching.py`: one process that keeps 32 single requests under way.

Every answer is compared with the unbatched one of onnxruntime, outside the request's time but
within the load: all contestants pay the same for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np
import onnx_files
import uvloop

from mlos_core.client import connect_async

QUESTIONS = 256
PATIENCE_S = 30.0

Ask = Callable[[int], Awaitable[Any]]
"""Sends the question of that number; gives the first output, of the one row."""


class Job(msgspec.Struct, frozen=True):
    """One client process. `address` is a socket's path for `shm`, else a URL's host and port."""

    case: str
    file: str
    kind: str
    address: str
    expected: str
    result: str
    threads: int = 1
    size: int = 1
    in_flight: int = 32
    warmup_s: float = 1.0
    seconds: float = 1.0


class Outcome(msgspec.Struct):
    """Latencies in ns of the requests that ended within the window, and what was wrong."""

    latencies: list[int]
    seconds: float
    rows: int
    worst: float
    same_bits: int
    compared: int


def questions(case: str) -> list[onnx_files.Inputs]:
    """The same in every process."""
    return onnx_files.MODELS[case].requests(QUESTIONS)


class Judge:
    """Compares answers with those of onnxruntime for the one row."""

    def __init__(self, expected: str) -> None:
        self.expected = np.load(expected)
        self.worst = 0.0
        self.same = self.compared = 0

    def __call__(self, number: int, answer: Any) -> None:
        want = self.expected[number]
        got = np.asarray(answer, want.dtype).reshape(want.shape)
        self.compared += 1
        if np.array_equal(got, want):
            self.same += 1
        else:
            self.worst = max(self.worst, float(np.abs(got - want).max()))


# --- in process ---------------------------------------------------------------------------


def in_process(job: Job) -> Outcome:
    """Onnxruntime on ready batches of one size; a batch's time is that of its rows."""
    session, judge = onnx_files.session(job.file, job.threads), Judge(job.expected)
    rows = questions(job.case)
    batches = []
    for first in range(0, QUESTIONS, job.size):
        numbers = [n % QUESTIONS for n in range(first, first + job.size)]
        joined = {k: np.concatenate([rows[n][k] for n in numbers]) for k in rows[0]}
        batches.append((numbers, joined))
    run_batches(session, batches, job.warmup_s, Judge(job.expected))
    times, seconds = run_batches(session, batches, job.seconds, judge)
    count = len(times) * job.size
    return Outcome(times, seconds, count, judge.worst, judge.same, judge.compared)


def run_batches(
    session: Any, batches: list[Any], seconds: float, judge: Judge
) -> tuple[list[int], float]:
    """Times of the calls, and the seconds that they took in all."""
    times: list[int] = []
    end = perf_counter_ns() + int(seconds * 1e9)
    turn = 0
    while perf_counter_ns() < end or not times:
        numbers, batch = batches[turn % len(batches)]
        begin = perf_counter_ns()
        answer = session.run(None, batch)[0]
        times.append(perf_counter_ns() - begin)
        for place, number in enumerate(numbers if turn < len(batches) else ()):
            judge(number, answer[place])
        turn += 1
    return times, sum(times) / 1e9


# --- through a server ---------------------------------------------------------------------


async def keep_asking(ask: Ask, job: Job, judge: Judge) -> Outcome:
    """`in_flight` tasks, each with one request under way until the time is over."""
    begin = perf_counter_ns() + int(job.warmup_s * 1e9)
    end = begin + int(job.seconds * 1e9)
    latencies: list[int] = []

    async def client(number: int) -> None:
        while True:
            sent = perf_counter_ns()
            if sent >= end:
                return
            answer = await ask(number)
            done = perf_counter_ns()
            if begin <= done < end:
                latencies.append(done - sent)
            judge(number, answer)
            del answer
            number = (number + job.in_flight) % QUESTIONS

    async with asyncio.timeout(job.warmup_s + job.seconds + PATIENCE_S):
        await asyncio.gather(*(client(number) for number in range(job.in_flight)))
    counted = (job.seconds, len(latencies), judge.worst, judge.same, judge.compared)
    return Outcome(latencies, *counted)


async def shared_memory(job: Job) -> Outcome:
    async with await connect_async(job.address) as client:
        model = await client.model(job.case)
        rows, name = questions(job.case), model.signature.outputs[0].name

        async def ask(number: int) -> Any:
            return (await model.infer(rows[number]))[name]

        return await keep_asking(ask, job, Judge(job.expected))


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way: the least a client can do."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def post(self, message: bytes) -> asyncio.Future[bytes]:
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return self.waiter

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        _, _, rest = head.partition(b"content-length:")
        size = int(rest.split(b"\r\n", 1)[0] or 0)
        if len(self.buffer) < end + 4 + size:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + size])
        del self.buffer[: end + 4 + size]
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.done():
            return
        if b" 200 " in head.partition(b"\r\n")[0]:
            waiter.set_result(body)
        else:
            waiter.set_exception(RuntimeError(f"{head!r} {body[:300]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error or ConnectionError("the server hung up"))


def of_mlosd(inputs: onnx_files.Inputs) -> Any:
    return {"inputs": {name: array.tolist() for name, array in inputs.items()}}


def of_litserve(inputs: onnx_files.Inputs) -> Any:
    return {name: array[0].tolist() for name, array in inputs.items()}


def of_mlserver(inputs: onnx_files.Inputs) -> Any:
    kinds = {"int64": "INT64", "int32": "INT32", "float32": "FP32"}
    return {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": kinds[array.dtype.name],
                "data": array.reshape(-1).tolist(),
            }
            for name, array in inputs.items()
        ]
    }


# path, body of a question, output in the decoded answer
HTTP: dict[str, tuple[str, Callable[[onnx_files.Inputs], Any], Callable[[Any], Any]]] = {
    "http": (
        "/api/v1/models/{}/infer",
        of_mlosd,
        lambda answer: next(iter(answer["outputs"].values())),
    ),
    "litserve": ("/predict", of_litserve, lambda answer: answer["output"]),
    "mlserver": ("/v2/models/{}/infer", of_mlserver, lambda answer: answer["outputs"][0]["data"]),
}


async def over_http(job: Job) -> Outcome:
    """Bodies are made before the clock starts; answers are decoded while it runs."""
    path, body_of, output_of = HTTP[job.kind]
    host, _, port = job.address.rpartition(":")
    messages = []
    for inputs in questions(job.case):
        body = msgspec.json.encode(body_of(inputs))
        head = (
            f"POST {path.format(job.case)} HTTP/1.1\r\nHost: {job.address}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        messages.append(head.encode() + body)
    decode, loop = msgspec.json.Decoder().decode, asyncio.get_running_loop()
    free = [
        (await loop.create_connection(Connection, host, int(port)))[1] for _ in range(job.in_flight)
    ]

    async def ask(number: int) -> Any:
        connection = free.pop()
        body = await connection.post(messages[number])
        free.append(connection)
        return output_of(decode(body))

    outcome = await keep_asking(ask, job, Judge(job.expected))
    for connection in free:
        connection.transport.close()
    return outcome


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    if job.kind == "process":
        outcome = in_process(job)
    else:
        outcome = uvloop.run(shared_memory(job) if job.kind == "shm" else over_http(job))
    Path(job.result).write_bytes(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
