# SPDX-License-Identifier: BUSL-1.1
"""A load of chat requests on any server with OpenAI's interface, and when each token came.

The client is light, because it shares the machine with the server: one thread, bare
transports, and what arrives is only stamped and put aside. It is understood when the last
answer is complete.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 600.0
WORDS = (
    *("river", "stone", "lantern", "harbour", "winter", "copper", "orchard", "violin", "shadow"),
    *("market", "engine", "letter", "mountain", "silver", "captain", "garden", "mirror"),
    *("thunder", "bridge", "candle", "forest", "island", "needle", "window"),
)
PROMPT_WORDS = 80


class BadAnswer(Exception):
    """The server answered with an error, or not to the end."""


@dataclass(frozen=True)
class Load:
    """How many clients ask at once, how often each, and for how many tokens."""

    clients: int
    requests: int
    tokens: int


@dataclass
class Measured:
    """Of one load: times in ns, and what all clients got together."""

    first: list[int] = field(default_factory=list)
    between: list[int] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


def prompt(seed: str) -> str:
    """A text that begins like no other, so that no server has it in a cache."""
    words = random.Random(seed).choices(WORDS, k=PROMPT_WORDS)
    return f"{seed}. Write a long story in which these words occur: {', '.join(words)}."


class Stream(asyncio.Protocol):
    """One request and its answer: bytes with the time at which they came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.arrived: list[tuple[int, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.arrived.append((perf_counter_ns(), data))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def frames(arrived: list[tuple[int, bytes]]) -> list[tuple[int, dict[str, Any]]]:
    """The events of an answer, each with the time at which its last byte came.

    Raises:
        BadAnswer: the status is not 200, or the answer is cut off.
    """
    head, _, rest = b"".join(data for _, data in arrived).partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise BadAnswer((head.partition(b"\r\n")[0] + b" " + rest[:300]).decode(errors="replace"))
    times = stamps(arrived)
    start = len(head) + 4
    pieces = dechunk(rest, start) if b"chunked" in head.lower() else [(start, rest)]
    found, line, ends = [], bytearray(), False
    for offset, piece in pieces:
        for at, part in enumerate(parts := piece.split(b"\n")):
            line += part
            if at == len(parts) - 1:
                break
            offset += len(part) + 1
            text, line = bytes(line).strip(), bytearray()
            if text == b"data: [DONE]":
                ends = True
            elif text.startswith(b"data: "):
                found.append((times(offset - 1), json.loads(text[6:])))
    if not ends:
        raise BadAnswer("the stream has no end")
    return found


def stamps(arrived: list[tuple[int, bytes]]) -> Any:
    """When the byte at an offset came."""
    ends, total = [], 0
    for when, data in arrived:
        total += len(data)
        ends.append((total, when))
    place = iter(ends)
    current = next(place)

    def at(offset: int) -> int:
        nonlocal current
        while offset >= current[0]:
            current = next(place)
        return current[1]

    return at


def dechunk(body: bytes, start: int) -> list[tuple[int, bytes]]:
    """The pieces of a chunked body, with their offsets in the whole answer."""
    pieces, at = [], 0
    while True:
        size, _, _ = body[at : at + 20].partition(b"\r\n")
        count = int(size.partition(b";")[0] or b"0", 16)
        if not count:
            return pieces
        at += len(size) + 2
        pieces.append((start + at, body[at : at + count]))
        at += count + 2


def has_text(event: dict[str, Any]) -> bool:
    """Whether a chunk brings text."""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content") or choice.get("text"):
            return True
    return False


def understand(began: int, arrived: list[tuple[int, bytes]], into: Measured) -> None:
    """Add one answer to what was measured."""
    events = frames(arrived)
    if wrong := next((event["error"] for _, event in events if "error" in event), None):
        raise BadAnswer(str(wrong))
    times = [when for when, event in events if has_text(event)]
    if not times:
        raise BadAnswer("an answer without text")
    usage = next((e["usage"] for _, e in reversed(events) if e.get("usage")), None)
    into.tokens += usage["completion_tokens"] if usage else len(times)
    into.first.append(times[0] - began)
    into.between += [later - earlier for earlier, later in itertools.pairwise(times)]


async def request(base: str, model: str, text: str, tokens: int) -> tuple[int, list]:
    """Ask once; when that began, and what arrived."""
    url = urlsplit(base)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": 0,
    }
    raw = json.dumps(body).encode()
    head = (
        f"POST {url.path.rstrip('/')}/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
        "Authorization: Bearer none\r\nConnection: close\r\n\r\n"
    )
    began = perf_counter_ns()
    _, stream = await asyncio.get_running_loop().create_connection(
        lambda: Stream(head.encode() + raw), url.hostname, url.port
    )
    async with asyncio.timeout(PATIENCE_S):
        await stream.done
    return began, stream.arrived


async def run(base: str, model: str, load: Load, seed: str) -> Measured:
    """One load from its first request to its last answer."""

    async def client(number: int) -> list:
        return [
            await request(base, model, prompt(f"{seed}-{number}-{turn}"), load.tokens)
            for turn in range(load.requests)
        ]

    began = perf_counter_ns()
    answers = await asyncio.gather(*(client(number) for number in range(load.clients)))
    measured = Measured(seconds=(perf_counter_ns() - began) / 1e9)
    for one in answers:
        for start, arrived in one:
            understand(start, arrived, measured)
    return measured


def measure(base: str, model: str, load: Load, seed: str) -> Measured:
    """`run` in a loop of its own.

    Args:
        base: the URL up to and with `/v1`.
        seed: makes the prompts; the same for every server that is compared.
    """
    return asyncio.run(run(base, model, load, seed))
