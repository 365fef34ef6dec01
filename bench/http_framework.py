# SPDX-License-Identifier: BUSL-1.1
"""What a web framework costs per request: Starlette against Litestar on the same server.

Every contestant runs uvicorn's httptools protocol on uvloop in a process of its own and
serves the same no-op handlers on TCP and on a Unix socket: one that decodes and encodes a
JSON inference body with msgspec, one that answers a binary body with a small one. `asgi` is
the floor, the same work in a bare ASGI callable. The client is a blocking socket, so what is
measured is the server. Rounds are interleaved and their order is shuffled.

All servers get the same allocator settings. With glibc's defaults a body of some hundred
KiB is returned to the kernel after each request and faulted in again by the next, at three
times the cost of everything measured here, in some processes and not in others, depending
on what they happened to free before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTESTANTS = ("asgi", "starlette", "litestar")
CASES = ("json-tcp", "json-uds", "binary-tcp", "binary-uds")
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(256 << 20)}
BINARY = os.urandom(602_112)
JSON = json.dumps({"inputs": {"x": [0.5] * 64}}).encode()


# --- servers: the handlers are what each framework's manual recommends ---------------------


def asgi_app() -> Any:
    import msgspec

    class Body(msgspec.Struct):
        inputs: dict[str, list[float]]

    decode, encode = msgspec.json.Decoder(Body).decode, msgspec.json.Encoder().encode

    async def app(scope: Any, receive: Any, send: Any) -> None:
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message["body"])
            more = message["more_body"]
        body = b"".join(chunks)
        if scope["path"].endswith("/infer"):
            kind, answer = b"application/json", encode({"outputs": decode(body).inputs})
        else:
            kind, answer = b"application/octet-stream", body[:64]
        headers = [(b"content-type", kind), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def starlette_app() -> Any:
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    class Body(msgspec.Struct):
        inputs: dict[str, list[float]]

    decode, encode = msgspec.json.Decoder(Body).decode, msgspec.json.Encoder().encode

    async def infer(request: Request) -> Response:
        body = decode(await request.body())
        return Response(encode({"outputs": body.inputs}), media_type="application/json")

    async def binary(request: Request) -> Response:
        body = await request.body()
        return Response(body[:64], media_type="application/octet-stream")

    return Starlette(
        routes=[
            Route("/models/{name}/infer", infer, methods=["POST"]),
            Route("/models/{name}/binary", binary, methods=["POST"]),
        ]
    )


def litestar_app() -> Any:
    import litestar
    import msgspec

    class Body(msgspec.Struct):
        inputs: dict[str, list[float]]

    class Answer(msgspec.Struct):
        outputs: dict[str, list[float]]

    async def infer(name: str, data: Any) -> Any:
        return Answer(outputs=data.inputs)

    async def binary(name: str, request: Any) -> Any:
        return (await request.body())[:64]

    # Set by hand: under `from __future__ import annotations` the names are local here.
    infer.__annotations__ = {"name": str, "data": Body, "return": Answer}
    binary.__annotations__ = {"name": str, "request": litestar.Request, "return": bytes}
    return litestar.Litestar(
        route_handlers=[
            litestar.post("/models/{name:str}/infer", status_code=200)(infer),
            litestar.post(
                "/models/{name:str}/binary", status_code=200, media_type="application/octet-stream"
            )(binary),
        ],
        openapi_config=None,
        logging_config=None,
    )


APPS: dict[str, Callable[[], Any]] = {
    "asgi": asgi_app,
    "starlette": starlette_app,
    "litestar": litestar_app,
}


async def serve(contestant: str, uds: str) -> None:
    import uvicorn

    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(uds)
    unix.listen()
    config = uvicorn.Config(
        APPS[contestant](),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    print(tcp.getsockname()[1], flush=True)  # both sockets queue connections from here on
    await uvicorn.Server(config).serve(sockets=[tcp, unix])


# --- client -----------------------------------------------------------------------------


class Peer:
    """One contestant's process and a keep-alive connection per transport."""

    def __init__(self, contestant: str, folder: Path) -> None:
        uds = str(folder / f"{contestant}.sock")
        command = [sys.executable, __file__, "--serve", contestant, "--uds", uds]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the {contestant} server did not start; see its message above")
        self.connections = {"tcp": socket.create_connection(("127.0.0.1", int(line)))}
        self.connections["tcp"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections["uds"] = socket.socket(socket.AF_UNIX)
        self.connections["uds"].connect(uds)

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.process.terminate()
        self.process.wait()


def request(case: str) -> bytes:
    kind = case.partition("-")[0]
    route, body = ("infer", JSON) if kind == "json" else ("binary", BINARY)
    mime = "application/json" if kind == "json" else "application/octet-stream"
    head = (
        f"POST /models/digits/{route} HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: {mime}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send one request and read its whole answer."""
    connection.sendall(message)
    answer = connection.recv(1 << 16)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += connection.recv(1 << 16)
    head = answer[:end].lower()
    at = head.index(b"content-length:") + 15
    size = int(head[at:].split(b"\r\n", 1)[0])
    while len(answer) < end + 4 + size:
        answer += connection.recv(1 << 16)
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"unexpected answer: {answer[:200]!r}")
    return answer[end + 4 :]


def measure(connection: socket.socket, message: bytes, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        exchange(connection, message)
        times.append((time.perf_counter_ns() - start) / 1000)
    return times


def run(quick: bool) -> list[dict[str, Any]]:
    rounds, per_round, warm = (5, 100, 100) if quick else (40, 250, 500)
    samples: dict[tuple[str, str], list[float]] = {(a, c): [] for a in CONTESTANTS for c in CASES}
    with tempfile.TemporaryDirectory() as folder:
        peers: dict[str, Peer] = {}
        try:
            for name in CONTESTANTS:
                peers[name] = Peer(name, Path(folder))
            answers_agree(peers)
            for number in range(-1, rounds):
                for name, case in random.sample(list(samples), len(samples)):
                    connection = peers[name].connections[case.partition("-")[2]]
                    times = measure(connection, request(case), warm if number < 0 else per_round)
                    samples[name, case] += times if number >= 0 else []
        finally:
            for peer in peers.values():
                peer.close()
    return [row(name, case, times) for (name, case), times in samples.items()]


def answers_agree(peers: dict[str, Peer]) -> None:
    """Every contestant must give the same answer before it is timed."""
    for case in CASES:
        transport = case.partition("-")[2]
        found = {exchange(p.connections[transport], request(case)) for p in peers.values()}
        if len(found) != 1:
            raise SystemExit(f"the contestants disagree in {case}: {found}")


def row(contestant: str, case: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)

    def at(q: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)

    return {
        "contestant": contestant,
        "case": case,
        "metric": "rtt",
        "unit": "us",
        "n": len(ordered),
        "median": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
    }


def machine() -> dict[str, Any]:
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--uds", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(serve(options.serve, options.uds))
        return
    result = {"machine": machine(), "rows": run(options.quick)}
    for line in result["rows"]:
        print("{contestant:10} {case:11} {median:8} {p99:8} {p999:8} {unit}".format(**line))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
