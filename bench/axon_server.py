# SPDX-License-Identifier: BUSL-1.1
"""Serves one file over HTTP with ranges, by sendfile: as little work as a server can do.

python axon_server.py FILE      prints its port
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading

BLOCK = 16 << 20


def serve(connection: socket.socket, file: int, size: int) -> None:
    """Answer one connection's requests until it ends."""
    with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
        while lines.readline():
            first, last, ranged = 0, size - 1, False
            while header := lines.readline().strip():
                found = re.match(rb"range:\s*bytes=(\d+)-(\d*)", header, re.IGNORECASE)
                if found:
                    first, last = int(found[1]), min(int(found[2] or size), size - 1)
                    ranged = True
            head = f'Content-Length: {last - first + 1}\r\nETag: "{size}"\r\n'
            if ranged:
                head += f"Content-Range: bytes {first}-{last}/{size}\r\n"
            status = "206 Partial Content" if ranged else "200 OK"
            connection.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode())
            while first <= last:
                first += os.sendfile(connection.fileno(), file, first, min(BLOCK, last - first + 1))


def main() -> None:
    file = os.open(sys.argv[1], os.O_RDONLY)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        arguments = (connection, file, os.fstat(file).st_size)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
