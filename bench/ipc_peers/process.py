# SPDX-License-Identifier: BUSL-1.1
"""The entry of a contestant's server and client process: `process.py ROLE JOB`.

A server writes one byte to the job's ready descriptor and runs until SIGTERM. A client
waits for a line on its standard input, so that it starts beside the server and connects
once that is ready; it leaves its samples (int64, ns) in the job's folder.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import sampling

from ipc_peers import CONTESTANTS
from ipc_peers.peer import AsyncPeer, Peer, Setting, Stop

PR_SET_PDEATHSIG = 1


class Job(msgspec.Struct, frozen=True):
    """What the harness asks of the two processes of one pair."""

    contestant: str
    nbytes: int
    in_place: bool
    folder: str
    plan: sampling.Plan
    samples: str
    ready_fd: int = -1
    cpus: tuple[int, ...] = ()


def peer_of(job: Job) -> Peer:
    entry = CONTESTANTS[job.contestant]
    module = importlib.import_module(f"ipc_peers.{entry.module}")
    peer: Peer = getattr(module, entry.cls)(Setting(job.nbytes, job.in_place, Path(job.folder)))
    return peer


def serve(job: Job) -> None:
    def stop(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stop

    def ready() -> None:
        os.write(job.ready_fd, b"!")
        os.close(job.ready_fd)

    signal.signal(signal.SIGTERM, stop)
    peer = None
    try:
        peer = peer_of(job)
        peer.serve(ready)
        signal.pause()  # it saw the client leave before it was ended
    except Stop:
        pass
    finally:
        if peer:
            peer.close()


def drive(job: Job) -> None:
    peer = peer_of(job)
    if not sys.stdin.readline():
        return
    try:
        if isinstance(peer, AsyncPeer):
            samples = asyncio.run(measure_async(peer, job))
        else:
            samples = measure(peer, job)
        samples.tofile(job.samples)
    finally:
        peer.close()


def measure(peer: Peer, job: Job) -> sampling.Samples:
    peer.connect()
    payload = peer.payload()
    return sampling.sample(peer.caller(payload), payload, job.plan)


async def measure_async(peer: AsyncPeer, job: Job) -> sampling.Samples:
    await peer.connect_async()
    payload = peer.payload()
    try:
        return await sampling.sample_async(peer.caller(payload), payload, job.plan)
    finally:
        await peer.close_async()


def main(role: str, text: str) -> None:
    # Neither process outlives a harness that was killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    job = msgspec.json.decode(text, type=Job)
    if job.cpus:
        os.sched_setaffinity(0, job.cpus)
    (serve if role == "server" else drive)(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
