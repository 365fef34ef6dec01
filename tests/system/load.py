# SPDX-License-Identifier: BUSL-1.1
"""Client processes that ask a daemon without pause, and what they have to say at the end."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PATIENCE = 90.0
ASKER = str(Path(__file__).resolve().parent / "asker.py")


class Client:
    """One `asker.py` process."""

    def __init__(self, daemon, environ, seed, way, model="m", timeout=60.0, **job):
        self.way = way
        job = {
            "socket": str(daemon.socket),
            "model": model,
            "seed": seed,
            "way": way,
            "timeout": timeout,
            "events": 30,
            **job,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", ASKER, json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **environ},
        )

    @property
    def pid(self):
        return self.process.pid

    def wait_answer(self):
        """Until the first answer has come."""
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert readable, f"no answer for {self.way}"
        assert self.process.stdout.readline() == b"answered\n"

    def wait_more(self):
        """Until 20 answers have come from now on."""
        self.process.send_signal(signal.SIGUSR1)
        self.wait_answer()

    def died(self):
        """Wait until it has ended by itself; its exit status."""
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status

    def end(self):
        """Let it finish what it asks; its report."""
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return {"way": self.way, "answers": 0, "events": 0, "faults": ["it does not end"]}
        lines = out.decode().splitlines()
        assert lines, f"the client {self.way} ended with {self.process.returncode} and no report"
        return {"way": self.way, **json.loads(lines[-1])}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        if not self.process.stdout.closed:
            self.process.stdout.close()


class Load:
    """Several clients at once."""

    def __init__(self, daemon, environ, ways, **job):
        self.clients = [
            Client(daemon, environ, seed, way, **job) for seed, way in enumerate(ways, 1)
        ]

    def __enter__(self):
        for client in self.clients:
            client.wait_answer()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()

    def wait_more(self):
        """Until every client has had 20 more answers."""
        for client in self.clients:
            client.wait_more()

    def end(self):
        """All reports; every fault of every client is an error."""
        for client in self.clients:
            client.process.terminate()
        reports = [client.end() for client in self.clients]
        faults = [f"{r['way']}: {fault}" for r in reports for fault in r["faults"]]
        assert not faults, "\n".join(faults[:20])
        for report in reports:
            assert report["answers"], report
            assert report["slots_free"] + report["resting"] == report["slots"], report
            assert report["held"] == 0, report
        return reports
