# SPDX-License-Identifier: BUSL-1.1
"""A web server on real sockets that can be told to lie, to break off and to go away."""

import contextlib
import hashlib
import re
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self):
        """First and last byte; None if the whole file is asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else None


@dataclass
class Reply:
    """What is sent. `cut`: so many bytes of the body, then a reset; `length`: what is said
    of the body, if not the truth."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    cut: int | None = None
    chunked: bool = False
    close: bool = False
    drip: threading.Event | None = None
    tail: bytes = b""


@dataclass
class Web:
    """Serves `files` by path. `behave(request, reply)` may change or replace any reply."""

    files: dict[str, bytes] = field(default_factory=dict)
    behave: object = None
    ranges: bool = True
    etags: bool = True
    certificate: object = None
    log: list[Request] = field(default_factory=list)
    sent: int = 0
    port: int = 0

    def __enter__(self):
        self._lock = threading.Lock()
        self._open = set()
        self._threads = []
        self._listen(0)
        return self

    def __exit__(self, *_):
        self.stop()

    def _listen(self, port):
        self._socket = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._socket,), daemon=True)
        self._accepting.start()

    def stop(self):
        """Break every connection and listen no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join(10)
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def restart(self):
        """Be there again, at the same port."""
        self._listen(self.port)

    def url(self, path, host="127.0.0.1"):
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}{path}"

    def ranges_of(self, path):
        """The ranges that were asked for, in order."""
        return [request.range for request in self.log if request.path == path]

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._open.add(connection)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            try:
                connection = context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            with connection.makefile("rb") as lines:
                while self._one(connection, lines):
                    pass
        with self._lock:
            self._open.discard(connection)

    def _one(self, connection, lines):
        first = lines.readline().decode().split()
        if len(first) != 3:
            return False
        headers = {}
        while line := lines.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        request = Request(first[0], first[1], headers)
        with self._lock:
            self.log.append(request)
        reply = self.reply(request)
        if self.behave:
            reply = self.behave(request, reply) or reply
        return self._send(connection, request, reply)

    def reply(self, request):
        data = self.files.get(request.path)
        if data is None:
            return Reply(404, {}, b"nothing here")
        headers = {"Content-Type": "application/octet-stream"}
        if self.etags:
            headers["ETag"] = f'"{hashlib.md5(data).hexdigest()}"'
        wanted = request.range if self.ranges else None
        if request.headers.get("if-range", headers.get("ETag")) != headers.get("ETag"):
            wanted = None
        if wanted is None:
            return Reply(200, headers, data)
        start, last = wanted
        last = len(data) - 1 if last is None else min(last, len(data) - 1)
        if start >= len(data):
            return Reply(416, headers | {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        return Reply(206, headers, data[start : last + 1])

    def _send(self, connection, request, reply):
        headers = dict(reply.headers)
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not reply.close:
            headers.setdefault("Content-Length", str(len(reply.body)))
        head = f"HTTP/1.1 {reply.status} Status\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(head.encode() + b"\r\n")
        if request.method == "HEAD":
            return True
        if reply.drip is not None:
            connection.sendall(reply.body[:1])
            reply.drip.wait(30)
            return False
        body = reply.body if reply.cut is None else reply.body[: reply.cut]
        if reply.chunked and body:
            connection.sendall(b"%x\r\n" % len(body) + body + b"\r\n")
        elif body:
            connection.sendall(body)
        with self._lock:
            self.sent += len(body)
        if reply.cut is not None:
            # A reset rather than an orderly end, and only once the bytes are on their way.
            if reply.cut % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if reply.chunked:
            connection.sendall(b"0\r\n\r\n")
        connection.sendall(reply.tail)
        return not reply.close
