# SPDX-License-Identifier: BUSL-1.1
"""What the system does to a server: full disks, busy databases, clients that say nothing."""

import asyncio
import errno
import os
import sqlite3
from io import BytesIO

import pytest
import uvicorn
from uvicorn.server import ServerState

from axon_client.registry.database import Database
from axon_client.registry.edge import Edge
from axon_client.registry.limits import Limits
from axon_client.registry.protocol import RegistryProtocol
from axon_client.registry.sending import FileResponse
from axon_client.registry.server import listen
from axon_client.registry.writer import Digest, Upload, Writer
from mlos_core.errors import ConfigError, NotFound, OutOfMemory, Overloaded

WAIT_S = 30


class Full(BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Short(BytesIO):
    """Writes less than it is given, as files may."""

    def write(self, data):
        return super().write(data[:3])


def writer(file):
    return Writer(file, Upload("key", "", 100, 0), 100, Digest(), lambda count: None)


def test_a_full_disk_is_named():
    with pytest.raises(OutOfMemory):
        writer(Full()).write(b"data")


def test_a_write_that_is_cut_short_goes_on():
    file = Short()
    writer(file).write(b"0123456789")
    assert file.getvalue() == b"0123456789"


def test_nothing_is_written_after_the_end_of_the_request():
    file = BytesIO()
    late = writer(file)
    late.close()
    with pytest.raises(NotFound):
        late.write(b"late")
    assert file.getvalue() == b""


def test_a_writer_that_waits_too_long_for_another_process_is_told_to_come_again(tmp_path):
    path = tmp_path / "registry.db"
    database = Database(path, busy_timeout_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Overloaded), database.write():
        pass
    assert database.namespaces() == []  # readers do not wait
    other.execute("ROLLBACK")
    with database.write() as connection:
        connection.execute("INSERT INTO packages (namespace, name, created) VALUES ('a', 'b', '')")
    assert database.namespaces() == ["a"]
    other.close()
    database.close()


def test_a_disk_that_is_full_for_the_database_is_named(site):
    def grow():
        with site.database.write() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            values = ("key", "x" * 100_000, "", "", "", "")
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", values)

    with pytest.raises(OutOfMemory):
        grow()
    assert site.tokens.all() == []


def test_what_raises_inside_a_writing_block_changes_nothing(site):
    def fail():
        with site.database.write() as connection:
            connection.execute(
                "INSERT INTO packages (namespace, name, created) VALUES ('a', 'b', '')"
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert site.database.namespaces() == []


class Listening:
    """The protocol with an application of one's own, in a loop of one's own."""

    def __init__(self, app, **attributes):
        kind = type("Protocol", (RegistryProtocol,), attributes)
        self._config = uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_config=None)
        self._config.load()
        self._kind, self._state = kind, ServerState()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._kind(self._config, self._state, {}, loop), "127.0.0.1", 0
        )
        return self

    async def __aexit__(self, *exc):
        self._server.close()

    async def connect(self):
        return await asyncio.open_connection(*self._server.sockets[0].getsockname())


async def hello(scope, receive, send):
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def ended(listening, *pieces):
    """What a connection gives until the server ends it."""

    async def ask():
        async with asyncio.timeout(WAIT_S), listening:
            reader, writing = await listening.connect()
            for piece in pieces:
                writing.write(piece)
                await writing.drain()
            data = await reader.read()
            writing.close()
            return data

    return asyncio.run(ask())


@pytest.mark.parametrize("pieces", [[], [b"GET / HT"], [b"GET / HTTP/1.1\r\n", b"Host: x\r\n"]])
def test_a_connection_without_a_whole_request_ends(pieces):
    assert ended(Listening(hello, idle_s=0.05), *pieces) == b""


def test_a_body_that_goes_on_after_the_answer_ends():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    assert ended(Listening(hello, idle_s=0.05), head, b"x").endswith(b"hello")


def test_a_connection_too_many_is_closed_at_once():
    async def ask():
        async with asyncio.timeout(WAIT_S), Listening(hello, most=1) as listening:
            _, first = await listening.connect()
            reader, second = await listening.connect()
            try:
                data = await reader.read()
            except ConnectionResetError:
                data = b""
            first.close()
            second.close()
            return data

    assert asyncio.run(ask()) == b""


def test_a_file_that_becomes_shorter_ends_the_answer_before_its_length(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"short")

    async def app(scope, receive, send):
        answer = FileResponse(path.open("rb"), 0, 5000, 200, {}, 5.0)
        await Edge(answer, Limits())(scope, receive, send)

    data = ended(Listening(app), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"content-length: 5000" in data
    assert not data.endswith(b"short")


@pytest.mark.parametrize("host", ["a" * 70 + ".example", ".."])
def test_an_address_that_cannot_be_is_refused(host):
    with pytest.raises(ConfigError):
        listen(host, 0)
