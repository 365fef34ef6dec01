# SPDX-License-Identifier: BUSL-1.1
"""Kills a downloading process at random bytes until the file is there, again and again.

    python bench/axon_cuts.py --cuts 200

Checked each time: what the killed process noted as verified is not fetched again, and what
lies there in the end is the file. The server cuts its own connections meanwhile, too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from web import Reply, Request, Web

PART = 64 << 10
PATIENCE_S = 60.0
PROGRAM = """
import sys
from pathlib import Path
from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.progress import silent
url, size, sha256, target, part = sys.argv[1:]
file = RemoteFile("f", (url,), int(size), sha256)
net.download(Path(target), file, silent, net.Options(part_bytes=int(part), attempts=50))
"""


class Killer:
    """Sends until a byte, holds everything back then, and tells that it is time."""

    def __init__(self, rng: random.Random, room: int) -> None:
        self.time = threading.Event()
        self.gone = threading.Event()
        self._rng = rng
        self._room = room
        self._lock = threading.Lock()

    def behave(self, request: Request, reply: Reply) -> Reply | None:
        with self._lock:
            room, self._room = self._room, self._room - len(reply.body)
        if room < len(reply.body):
            self.time.set()
            part = reply.body[: max(room, 1)]
            return Reply(reply.status, reply.headers, part, close=True, drip=self.gone)
        if self._rng.random() < 0.1:
            reply.cut = self._rng.randrange(len(reply.body) + 1)
        return None


def download(web: Web, data: bytes, target: Path, killer: Killer) -> bool:
    """One process; whether it came to its end before it was killed."""
    web.behave = killer.behave
    digest = hashlib.sha256(data).hexdigest()
    arguments = [web.url("/f"), str(len(data)), digest, str(target), str(PART)]
    process = subprocess.Popen([sys.executable, "-P", "-c", PROGRAM, *arguments])
    try:
        while process.poll() is None and not killer.time.wait(0.005):
            pass
        if process.poll() is None:
            process.kill()
        return process.wait(PATIENCE_S) == 0
    finally:
        killer.gone.set()


def noted(target: Path) -> set[int]:
    """The parts that are verified, as the notes beside a partial file say."""
    path = target.with_name(target.name + ".state")
    lines = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
    return {json.loads(line)["part"] for line in lines}


def asked(web: Web) -> set[int]:
    """The parts that were asked for."""
    ranges = [request.range for request in web.log if request.range]
    return {part for first, last in ranges for part in range(first // PART, last // PART + 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, cuts, files = random.Random(args.seed), 0, 0
    data = rng.randbytes(8_000_003)
    with Web({"/f": data}) as web, tempfile.TemporaryDirectory() as place:
        target = Path(place) / "target"
        while cuts < args.cuts:
            kept = noted(target)
            web.log.clear()
            room = rng.randrange(1, len(data) // 4)
            ended = download(web, data, target, Killer(rng, room))
            again = kept & asked(web)
            if again:
                raise SystemExit(f"cut {cuts}: parts {sorted(again)} were fetched again")
            if not ended:
                cuts += 1
                continue
            if target.read_bytes() != data:
                raise SystemExit(f"cut {cuts}: the file is wrong")
            files += 1
            target.unlink()
    print(f"{args.cuts} processes killed, {files} files whole, no verified part fetched again")


if __name__ == "__main__":
    main()
