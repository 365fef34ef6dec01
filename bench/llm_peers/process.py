# SPDX-License-Identifier: BUSL-1.1
"""The entry of a contestant's process: `process.py CONTESTANT JOB`, with the job in JSON.

It says so when the model is loaded, then answers each line of the standard input with one on
the standard output, in JSON:

{"case": "decode-4", "count": 48}   -> {"ns": [...]}
{"memory": true}                    -> {"mib": {...}}

With a text as third argument it instead computes the first token after that text, says when
it had it, and ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from typing import Any, TextIO

from llm_peers import MODULES
from llm_peers.memory import resident
from llm_peers.peer import Job, Peer, measure

PR_SET_PDEATHSIG = 1


def make(contestant: str, job: Job) -> Peer:
    module, name = MODULES[contestant]
    peer: Peer = getattr(importlib.import_module(f"llm_peers.{module}"), name)(job)
    return peer


def serve(peer: Peer, before: float, out: TextIO) -> None:
    """Answer until the input ends."""
    say(out, {"ready": peer.about()})
    for line in sys.stdin:
        wish = json.loads(line)
        if wish.get("memory"):
            say(out, {"mib": {**resident(), **peer.sizes(), "before_load": before}})
        else:
            say(out, {"ns": measure(peer, wish["case"], wish["count"])})


def say(out: TextIO, what: dict[str, Any]) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def main(contestant: str, text: str, prompt: str = "") -> None:
    # Nobody outlives a harness that was killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # Answers go where the harness listens, whatever a library prints meanwhile.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    before = resident()["resident"]
    peer = make(contestant, Job(**json.loads(text)))
    try:
        if prompt:
            token = peer.first_token(prompt)
            say(out, {"token": token, "at_ns": time.monotonic_ns()})
        else:
            serve(peer, before, out)
    finally:
        peer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
