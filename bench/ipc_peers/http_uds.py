# SPDX-License-Identifier: BUSL-1.1
"""The daemon's own HTTP front on a Unix socket: a keep-alive connection and `.npy` bodies.

The client is the standard library's, on which most Python HTTP clients in use are built.
The header of the `.npy` body is made once, and of the answer only the number is read.
"""

from __future__ import annotations

import http.client
import io
import socket
import struct
from collections.abc import Callable

import numpy as np

from ipc_peers.mlos import MODEL, daemon, stay
from ipc_peers.peer import CONNECT_S, Bytes, Peer

PATH = f"/api/v1/models/{MODEL}/infer"
NPY = "application/x-npy"
read = struct.Struct("d").unpack


class UnixConnection(http.client.HTTPConnection):
    """`http.client` on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def npy_header(values: int) -> bytes:
    """What stands before the data in a `.npy` file of so many float64."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (values,)}
    )
    return file.getvalue()


class Http(Peer):
    """One POST per call."""

    @property
    def path(self) -> str:
        return str(self.setting.folder / "http")

    def serve(self, ready: Callable[[], None]) -> None:
        settings = {"MLOS_HTTP": "true", "MLOS_HTTP_PORT": "0", "MLOS_HTTP_SOCKET": self.path}
        with daemon(self.setting.folder, **settings):
            stay(ready)

    def connect(self) -> None:
        self.connection = UnixConnection(self.path)
        self.connection.connect()

    def caller(self, payload: Bytes) -> Callable[[], float]:
        request, response = self.connection.request, self.connection.getresponse
        headers = {"Content-Type": NPY, "Accept": NPY}
        parts = (npy_header(payload.nbytes // 8), memoryview(payload))

        def call() -> float:
            request("POST", PATH, b"".join(parts), headers)
            return read(response().read()[-8:])[0]

        return call

    def close(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
