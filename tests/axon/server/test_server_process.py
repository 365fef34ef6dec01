# SPDX-License-Identifier: BUSL-1.1
"""A real server in its own process, over a real port: files, faults, signals, `kill -9`."""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest

from axon_client.manifest import decode
from axon_client.registry.database import Database
from axon_client.registry.rows import needed
from axon_client.registry.site import Site

from .conftest import WEIGHTS, Publisher

WAIT_S = 30
BIG = random.Random(5).randbytes(3 << 20)
DIGEST = hashlib.sha256(BIG).hexdigest()
BLOB = f"/api/v1/blobs/sha256/{DIGEST}"


class Server:
    """`axon registry serve` on a free port; `call` is a client with a publisher's token."""

    def __init__(self, folder, *options):
        site = Site(folder)
        token, _ = site.tokens.create("somebody", ["publish:*"])
        site.close()
        self.log = (folder / "log").open("w+")
        command = [sys.executable, "-P", "-m", "axon_client.cli", "registry", "serve"]
        self.process = subprocess.Popen(
            [*command, "--data", folder, "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.port = urlsplit(self.url).port
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_S)
        self.call = self._client.request

    def stop(self, number=signal.SIGTERM):
        self._client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self.process.stdout.close()
        self.log.flush()
        return code

    def written(self):
        self.log.seek(0)
        return self.log.read()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), WAIT_S)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "registry")
    yield server
    server.stop(signal.SIGKILL)
    server.log.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """One server for the tests that leave it running; no test may find a traceback in its log."""
    server = Server(tmp_path_factory.mktemp("lasting") / "registry")
    yield server
    server.stop()
    assert "Traceback" not in server.written()
    server.log.close()


def test_a_file_goes_up_and_comes_back_whole_and_in_ranges(lasting):
    publisher = Publisher(lasting.call)
    assert publisher.upload(BIG).is_success
    whole = lasting.call("GET", BLOB)
    assert hashlib.sha256(whole.content).hexdigest() == DIGEST
    assert lasting.call("HEAD", BLOB).headers["content-length"] == str(len(BIG))
    for start, end in ((0, 1), (12345, 2345678), (len(BIG) - 1, len(BIG))):
        part = lasting.call("GET", BLOB, headers={"range": f"bytes={start}-{end - 1}"})
        assert (part.status_code, part.content) == (206, BIG[start:end])
    assert lasting.call("GET", BLOB, headers={"if-none-match": f'"{DIGEST}"'}).status_code == 304


def test_requests_that_come_at_once_are_answered_in_order(lasting):
    Publisher(lasting.call).upload(BIG)
    asked = f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nRange: bytes={{}}\r\n\r\n"
    last = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with lasting.connect() as connection:
        connection.sendall((asked.format("0-9") + asked.format("100000-900000") + last).encode())
        data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    first, second = data.find(BIG[:10]), data.find(BIG[100000:900001])
    assert 0 < first < second < data.find(b'{"status":"ok"}')


def test_a_client_that_leaves_in_the_middle_is_no_fault(server):
    Publisher(server.call).upload(BIG)
    for _ in range(3):
        with server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(100)
    assert server.call("GET", "/health").status_code == 200
    assert server.stop() == 0
    assert "Traceback" not in server.written()


def test_an_upload_that_is_cut_goes_on(lasting):
    publisher = Publisher(lasting.call)
    data = BIG[::-1]
    location = publisher.begin(data).headers["location"]
    authorization = lasting._client.headers["authorization"]
    with lasting.connect() as connection:
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\n"
            f"Authorization: {authorization}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        connection.sendall(head.encode() + data[:2_000_000])
    # The lasting may still be writing what came, or not know yet that the rest will not.
    offset = 0
    while (answer := publisher.patch(location, offset, data[offset:])).status_code != 204:
        assert answer.status_code in (409, 429)
        offset = int(answer.headers.get("upload-offset", offset))
    done = publisher.web("PUT", location)
    assert lasting.call("GET", done.headers["location"]).content == data


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * (40 << 10),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (40 << 10),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /%ff%fe%00%0a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        bytes(1000),
    ],
    ids=["nonsense", "no host", "long path", "long header", "both", "negative", "bytes", "zeros"],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(lasting, request_):
    with lasting.connect() as connection:
        connection.sendall(request_)
        data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert data.split(b" ")[1][:1] == b"4"
    assert lasting.call("GET", "/health").status_code == 200


def test_a_body_without_end_is_refused_before_its_end(lasting):
    def endless():
        for _ in range(64):
            yield b"x" * (1 << 20)

    answer = lasting.call("PUT", "/api/v1/models/a/b/-/versions/1.0.0", content=endless())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


def test_the_log_names_every_request_and_no_control_characters(server):
    server.call("GET", "/api/v1/search?q=%0a%1b[31m")
    server.call("GET", "/a%0d%0ab")
    assert server.stop() == 0
    lines = [line for line in server.written().splitlines() if "axon.registry.access" in line]
    assert len(lines) == 2
    assert "127.0.0.1 GET /a%0d%0ab 404" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_end(server, number):
    Publisher(server.call).upload(BIG)
    with server.connect() as connection:
        connection.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        data = connection.recv(1)
        server.process.send_signal(number)
        while block := connection.recv(1 << 16):
            data += block
    assert data.endswith(BIG)
    assert server.stop(number) == 0


def test_readiness_is_told_on_a_descriptor(tmp_path):
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "axon_client.cli", "registry", "serve", "--quiet"]
    with subprocess.Popen(
        [*command, "--data", tmp_path / "r", "--port", "0", "--ready-fd", str(writer)],
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
    ) as process:
        os.close(writer)
        with os.fdopen(reader) as told:
            url = told.readline().strip()
        answer = httpx.get(f"{url}/api/v1/registry.json", timeout=WAIT_S)
        process.terminate()
        assert answer.json()["static"] is False
        assert process.wait(WAIT_S) == 0


def test_a_port_that_is_taken_is_explained(server, tmp_path):
    command = [sys.executable, "-P", "-m", "axon_client.cli", "registry", "serve", "--json"]
    done = subprocess.run(
        [*command, "--data", tmp_path / "other", "--port", str(server.port)],
        capture_output=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 78
    assert "--port" in json.loads(done.stdout)["error"]["hint"]


PUBLISH = """
import sys
from io import BytesIO
from pathlib import Path
from axon_client.registry.publishing import publish
from axon_client.registry.site import Site
from tests_describe import describe
site = Site(Path(sys.argv[1]))
for number in range(10_000):
    files = {f"{part}.bin": f"{number} {part}".encode() for part in range(20)}
    for data in files.values():
        site.blobs.put(BytesIO(data))
    publish(site.database, site.blobs, describe("tiny", files, version=f"1.0.{number}"))
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_version_that_is_being_published_at_kill_9_is_there_whole_or_not_at_all(tmp_path, after):
    from . import conftest

    (tmp_path / "tests_describe.py").write_text(
        "import hashlib\nfrom axon_client import manifest as manifests\n"
        + "\n\n".join(
            __import__("inspect").getsource(f) for f in (conftest.file, conftest.describe)
        )
    )
    folder = tmp_path / "registry"
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISH, folder],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:
        told = [process.stdout.readline() for _ in range(after)]
        process.kill()
    site = Site(folder)
    versions = site.database.versions("acme", "tiny")
    assert len(versions) >= len(told)
    for row in versions:
        detail = site.database.version("acme", "tiny", row.version)
        manifest = site.database.manifest("acme", "tiny", row.version)
        assert hashlib.sha256(manifest).hexdigest() == row.manifest_sha256
        listed = decode(manifest).spec.format.files
        assert sorted(file.path for file in listed) == [file.path for file in detail.files]
        site.blobs.check(row.version, detail.files)
    with site.database.read() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert site.database.tags("acme", "tiny")["latest"] == versions[0].version
    site.close()


def test_a_server_that_was_killed_starts_again_with_what_it_had(tmp_path):
    folder = tmp_path / "registry"
    server = Server(folder)
    assert Publisher(server.call).publish().status_code == 201
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    server.log.close()
    database = Database(folder / "registry.db")
    assert [row.version for row in database.versions("acme", "tiny")] == ["1.0.0"]
    with database.read() as connection:
        assert list(needed(connection)) == [hashlib.sha256(WEIGHTS).hexdigest()]
    database.close()
