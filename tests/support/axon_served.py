# SPDX-License-Identifier: BUSL-1.1
"""Registries to test a client against: a real one in a process of its own, files on a plain web
server, and one of the original kind."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).resolve().parents[2]


def axon(*arguments, home, **environment):
    """Run `axon` in a process of its own; the finished process."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "axon_client.cli", *map(str, arguments)],
        env={**os.environ, "AXON_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


class Served:
    """A registry that is served: its URL, its folder, and a token that may publish anywhere."""

    def __init__(self, url, data, token):
        self.url = url
        self.data = data
        self.token = token

    def new_token(self, *scopes):
        return _token(self.data, *scopes)


@contextlib.contextmanager
def serving(data, *options):
    """`axon registry serve` over the folder `data`, until the block ends."""
    command = [sys.executable, "-P", "-m", "axon_client.cli", "registry", "serve", "--json"]
    process = subprocess.Popen(
        [*command, "--data", str(data), "--port", "0", "--quiet", *options],
        env={**os.environ, "AXON_HOME": str(data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = json.loads(process.stdout.readline())["url"]
        yield Served(url, data, _token(data, "publish:*", "admin"))
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _token(data, *scopes):
    options = [text for scope in scopes for text in ("--scope", scope)]
    made = axon("registry", "token", "create", "t", "--data", data, *options, home=data)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextlib.contextmanager
def answering(handler):
    """A web server in a thread; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *arguments):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def files_of(folder):
    """A handler that serves the files of a folder, and nothing else."""

    class Files(Quiet, SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

    return Files


def original(hits, manifests, archives):
    """A handler of the original kind. `manifests` and `archives` are bytes by path."""

    class Original(Quiet):
        def do_GET(self):
            parts = urlsplit(self.path)
            if parts.path == "/api/v1/search":
                query = parse_qs(parts.query).get("q", [""])[0]
                self.reply(200, json.dumps([h for h in hits if query in h["name"]]).encode())
                return
            found = {**manifests, **archives}.get(parts.path)
            self.reply(200 if found else 404, found or b"")

        do_HEAD = do_GET

    return Original
