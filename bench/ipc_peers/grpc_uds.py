# SPDX-License-Identifier: BUSL-1.1
"""grpcio over a Unix socket: one unary method with bytes in and out, no protobuf."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from ipc_peers.peer import CONNECT_S, Bytes, Peer

METHOD = "/bench.Number/Infer"
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
read, write = struct.Struct("d").unpack_from, struct.Struct("d").pack


def number(request: bytes, context: grpc.ServicerContext) -> bytes:
    return write(*read(request))


class Grpc(Peer):
    """A thread-pool server and a blocking stub."""

    @property
    def target(self) -> str:
        return f"unix:{self.setting.folder}/grpc"

    def serve(self, ready: Callable[[], None]) -> None:
        server = grpc.server(ThreadPoolExecutor(1), options=OPTIONS)
        method = grpc.unary_unary_rpc_method_handler(number)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Number", {"Infer": method}),)
        )
        server.add_insecure_port(self.target)
        server.start()
        ready()
        try:
            threading.Event().wait()
        finally:
            server.stop(None).wait(5)

    def connect(self) -> None:
        self.channel = grpc.insecure_channel(self.target, options=OPTIONS)
        grpc.channel_ready_future(self.channel).result(CONNECT_S)

    def caller(self, payload: Bytes) -> Callable[[], float]:
        method = self.channel.unary_unary(METHOD)

        def call() -> float:
            return read(method(payload.tobytes()))[0]

        return call

    def close(self) -> None:
        if hasattr(self, "channel"):
            self.channel.close()
