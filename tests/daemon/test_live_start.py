# SPDX-License-Identifier: BUSL-1.1
"""Starting, stopping, and who may connect: with real processes."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys

import pytest

from mlos_core.errors import InvalidInput, MlosError, NotFound, Overloaded
from mlos_core.ipc import framing
from mlos_core.ipc.messages import Answer, Hello, ToClient


def test_a_daemon_without_models_is_ready_and_ends_without_a_trace(daemon):
    status = daemon.call("status")
    assert status["ready"]
    assert status["pid"] == daemon.pid
    assert status["http"] == []
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    assert daemon.journal.ended()


def test_the_chosen_port_of_http_is_shown(daemons):
    daemon = daemons(MLOS_HTTP="true", MLOS_HTTP_PORT="0").start()
    (address,) = daemon.call("status")["http"]
    assert int(address.rpartition(":")[2]) > 0


def test_a_taken_port_is_a_clear_error(daemons):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        daemon = daemons(MLOS_HTTP="true", MLOS_HTTP_PORT=port).start(ready=False)
        assert daemon.process.wait(30) == 78
    assert daemon.journal.ended()
    text = json.dumps(daemon.journal.lines)
    assert port in text
    assert "Traceback" not in text


def test_ctrl_c_ends_it_as_sigterm_does(daemon):
    daemon.signal(signal.SIGINT)
    assert daemon.process.wait(30) == 0


def test_a_closed_terminal_does_not_end_it(daemon):
    daemon.signal(signal.SIGHUP)
    assert daemon.call("status")["pid"] == daemon.pid


def test_a_second_daemon_in_the_same_folder_names_the_first(daemon, daemons):
    second = daemons(folder=daemon.folder).start(ready=False)
    assert second.process.wait(30) == 73
    assert second.journal.ended()
    assert f"pid {daemon.pid}" in json.dumps(second.journal.lines)
    assert daemon.call("status")["pid"] == daemon.pid


def test_the_socket_of_a_killed_daemon_is_replaced(daemon):
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.call("status")["pid"] == daemon.pid


def test_an_unknown_setting_stops_it_before_it_starts(daemons):
    daemon = daemons().start("--set", "drain_timeot=3", ready=False)
    assert daemon.process.wait(30) == 78
    assert daemon.journal.ended()
    text = json.dumps(daemon.journal.lines)
    assert "drain_timeot" in text
    assert "drain_timeout" in text


def test_a_damaged_registry_is_kept_aside_and_the_next_start_works(daemon):
    daemon.stop()
    (daemon.folder / "state" / "registry.json").write_text("{")
    daemon.start(ready=False)
    assert daemon.process.wait(30) == 78
    daemon.start()
    assert daemon.call("models") == []
    assert (daemon.folder / "state" / "registry.json.corrupt-0").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_unless_allowed(daemons):
    stranger = 12345

    def say(daemon):
        try:
            with daemon.connect() as client:
                yield client.call("status")["pid"]
                client.call("unregister", name="x")
        except MlosError as err:
            yield err.code

    def ask(daemon):
        child = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Imported as root: the interpreter may lie where a stranger cannot read.
            try:
                os.setgroups([])
                os.setgid(stranger)
                os.setuid(stranger)
                for word in say(daemon):
                    os.write(child[1], f"{word} ".encode())
            finally:
                os._exit(0)
        os.close(child[1])
        os.waitpid(pid, 0)
        with os.fdopen(child[0]) as file:
            return file.read().split()

    closed = daemons(MLOS_SOCKET_MODE="0666")
    closed.folder.chmod(0o755)
    closed.start()
    assert ask(closed) == ["permission_denied"]
    opened = daemons(MLOS_SOCKET_MODE="0666", MLOS_ALLOWED_UIDS=str(stranger))
    opened.folder.chmod(0o755)
    opened.start()
    assert ask(opened) == [str(opened.pid), "permission_denied"]


def raw(daemon):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(30)
    sock.connect(str(daemon.socket))
    return sock


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<IB", 1 << 30, 0),
        struct.pack("<IB", 3, 0) + b"\xc1\xc1\xc1",
        struct.pack("<IB", 1, 8) + b"\x80",
    ],
)
def test_a_peer_that_speaks_nonsense_is_dropped_and_hurts_nobody(daemon, garbage):
    with raw(daemon) as sock:
        sock.sendall(garbage)
        while sock.recv(4096):
            pass
    daemon.journal.wait("peer_dropped")
    assert daemon.call("status")["ready"]


def test_a_client_of_another_protocol_is_told_so(daemon):
    with raw(daemon) as sock:
        connection = framing.Connection(sock)
        connection.send(Hello(os.getpid(), protocol=99))
        body, _ = connection.receive(30)
        answer = framing.decode(body, ToClient)
    assert isinstance(answer, Answer)
    assert answer.problem.code == "protocol"


def test_nobody_becomes_a_worker_by_saying_so(daemon, echo_file):
    from mlos_core.ipc.messages import WorkerHello, WorkerSpec

    info = daemon.call("register", name="echo", path=echo_file())
    owner = info["workers"][0]["owner"]
    spec = WorkerSpec("echo", "", "/", "echo", owner, 0, str(daemon.socket))
    with raw(daemon) as sock:
        connection = framing.Connection(sock)
        connection.send(WorkerHello(spec, os.getpid(), adopted=True))
        while sock.recv(4096):
            pass
    daemon.journal.wait("peer_dropped")
    assert daemon.call("model", name="echo")["state"] == "ready"


def test_more_clients_than_allowed_are_refused_and_told(daemons):
    daemon = daemons(MLOS_MAX_CLIENTS="4").start()  # two of them are the daemon itself
    with daemon.connect(), daemon.connect(), pytest.raises(Overloaded):
        daemon.connect()


def test_wrong_calls_are_answered_with_what_is_wrong(daemon):
    with daemon.connect() as client:
        with pytest.raises(NotFound, match="no method"):
            client.call("_forget", name="x")
        with pytest.raises(InvalidInput, match="colour"):
            client.call("models", colour="red")
        with pytest.raises(InvalidInput, match="relative"):
            client.call("register", name="x", path="x.echo")
        with pytest.raises(NotFound, match="no file"):
            client.call("register", name="x", path="/nowhere/x.echo")
        assert client.call("models") == []


def test_a_caller_who_may_not_write_there_is_told(tmp_path):
    program = [sys.executable, "-P", "-m", "mlos_core.cli.mlosd", "--run-dir", "/proc/nowhere"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert "cannot be made" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_forgets_the_handles_that_were_closed(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    with daemon.connect() as client:
        for _ in range(3):
            with client.model("m") as model:
                model.ping()
        assert client._models == []
