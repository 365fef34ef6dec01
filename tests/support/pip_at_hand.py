# SPDX-License-Identifier: BUSL-1.1
"""The real pip in processes that need not import it again: most of what its start costs.

A process imports pip once and forks for every run. Each fork has its own environment, folder,
arguments and descriptors, as a fresh process has; what it runs, and what watches it, is the
product's. Run as a script, it serves the socket that is its standard input.
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

MOST = 1 << 20
PRELOADED = (
    "cli.main", "commands.download", "commands.index", "commands.install", "metadata.importlib",
    "network.session", "index.package_finder",
)  # fmt: skip
PATIENCE_S = 60


class Pip:
    """Stands for the module `subprocess`; `close` ends it."""

    DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE

    def __init__(self):
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen([sys.executable, "-P", __file__], stdin=other)

    def close(self):
        self._control.close()
        self._process.wait(PATIENCE_S)

    def Popen(self, command, *, stdin, stdout, stderr, env):
        assert (command[:2], stdin, stdout) == ([sys.executable, "-P"], self.DEVNULL, self.PIPE)
        return Run(
            self._control, {"run": command[2:], "env": env, "folder": str(Path.cwd())}, stderr
        )


class Run:
    """One run, with as much of `subprocess.Popen` as is asked of it."""

    def __init__(self, control, wanted, stderr):
        output, write = os.pipe()
        self._channel, other = socket.socketpair()
        self.stdout, self.returncode = os.fdopen(output, "rb"), None
        try:
            descriptors = [write, stderr.fileno(), other.fileno()]
            socket.send_fds(control, [json.dumps(wanted).encode()], descriptors)
        finally:
            os.close(write)
            other.close()
        self._channel.settimeout(PATIENCE_S)
        self._answers = self._channel.makefile()
        self._pid = int(self._answers.readline())

    def kill(self):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def wait(self):
        if self.returncode is None:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()
        for file in (self.stdout, self._answers, self._channel):
            file.close()


def serve():
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MOST, 3)
        if not data:
            return
        if not os.fork():
            control.close()
            watch(json.loads(data), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def prepare():
    """Do what every run of pip begins with, and what ends in the same each time."""
    for name in PRELOADED:
        import_module(f"pip._internal.{name}")
    session = import_module("pip._internal.network.session")
    commands = import_module("pip._internal.cli.index_command")
    for module, slow in ((session, "user_agent"), (commands, "_create_truststore_ssl_context")):
        made = getattr(module, slow, lambda: None)()  # other programs, and all certificates
        setattr(module, slow, lambda made=made: made)


def watch(wanted, output, errors, answers):
    """Fork a run, and say what it is called and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.dup2(output, 1)
        os.dup2(errors, 2)
        for descriptor in (output, errors, answers):
            os.close(descriptor)
        run(wanted)
    os.close(output)
    os.write(answers, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(answers, b"%d\n" % code)
    os._exit(0)


def run(wanted):
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    module = wanted["run"][0] == "-m"
    sys.argv = wanted["run"][module:]
    start = runpy.run_module if module else runpy.run_path
    start(sys.argv[0], run_name="__main__", **({"alter_sys": True} if module else {}))
    sys.exit()


if __name__ == "__main__":
    serve()
