# SPDX-License-Identifier: BUSL-1.1
"""Many processes install overlapping models into one store while they are killed and gc runs.

`python tests/system/install_storm.py --seconds 300 --json FILE` does it at length; the tests
do a little of it. A web server of its own counts every byte that it sends. Processes die by
SIGKILL at random moments and are started again, until all have installed everything. Then
every model verifies, the store holds what the models need and nothing else, and no more came
over the network than each file once and what was under way whenever a process died.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from axon_client import manifest as manifests
from axon_client import net
from axon_client.adapters.base import RemoteFile, Resolved
from axon_client.errors import IntegrityError
from axon_client.installation import Installation, InstallOptions
from axon_client.manifest import ExecutionFile, Format, Metadata, ModelFile, Spec
from axon_client.net.transfer import RUN
from axon_client.spec import PackageSpec
from axon_client.store import Store

PART = 32 << 10
PARALLEL = 2
PIECE = 8 << 10
OPTIONS = net.Options(parallel=PARALLEL, part_bytes=PART)
DEADLINE_S = 120


@dataclass
class Catalogue:
    """Models by title, each with its files: path and name of the content."""

    models: dict[str, dict[str, str]]
    sizes: dict[str, int]

    def data(self, name):
        return random.Random(name).randbytes(self.sizes[name])


def make_catalogue(rng, models, blobs, most_bytes):
    """Models that have many of their files in common."""
    sizes = {f"blob{n}": rng.randrange(1, most_bytes) for n in range(blobs)}
    chosen = {}
    for number in range(models):
        names = rng.sample(sorted(sizes), rng.randrange(2, max(3, blobs // 2)))
        chosen[f"storm/m{number}"] = {f"f{i}/{name}.bin": name for i, name in enumerate(names)}
    used = {name for files in chosen.values() for name in files.values()}
    return Catalogue(chosen, {name: size for name, size in sizes.items() if name in used})


class Server(ThreadingHTTPServer):
    """Serves a catalogue's files in small pieces and counts what it sends of each."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, catalogue, pause):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/{name}": catalogue.data(name) for name in catalogue.sizes}
        self.pause = pause
        self.sent = dict.fromkeys(self.files, 0)
        self.lock = threading.Lock()

    def count(self, path, number):
        with self.lock:
            self.sent[path] += number

    def handle_error(self, request, client_address):
        """Its clients are killed all the time."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/-/sent":
            self.answer(200, json.dumps(self.server.sent).encode(), {})
            return
        data = self.server.files[self.path]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.answer(200, data, {}, self.path)
            return
        start, last = int(asked[1]), int(asked[2] or len(data) - 1)
        last = min(last, len(data) - 1)
        said = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
        self.answer(206, data[start : last + 1], said, self.path)

    def answer(self, status, body, headers, counted=""):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            if counted:
                self.server.count(counted, len(piece))
                time.sleep(self.server.pause)
            self.wfile.write(piece)

    def log_message(self, *arguments):
        pass


class Source:
    """The adapter of a catalogue at a server."""

    def __init__(self, catalogue, port):
        self.catalogue = catalogue
        self.port = port

    def resolve(self, spec):
        package = spec.at("1")
        names = self.catalogue.models[spec.title]
        return Resolved(package, files=tuple(self.file(p, n) for p, n in names.items()))

    def file(self, path, name):
        data = self.catalogue.data(name)
        url = f"http://127.0.0.1:{self.port}/{name}"
        return RemoteFile(path, (url,), len(data), hashlib.sha256(data).hexdigest())

    def fetch(self, spec, found, stage, progress):
        files = [stage.obtain(file, progress) for file in found.files]
        files.append(self.own(found.package, stage))
        format = Format(
            "onnx", "onnx", files=files, execution_files=[ExecutionFile(files[0].path, "onnx")]
        )
        about = Metadata(found.package.name, found.package.namespace, found.package.version)
        return manifests.new(about, Spec(format=format))

    def own(self, package, stage) -> ModelFile:
        """A file that does not come over the network."""
        path = stage.scratch / "about.txt"
        path.write_text(str(package))
        return stage.adopt("about.txt", path)


def work(home, catalogue, port, seed):
    """Install every model, in an order of one's own."""
    whole = net.download
    net.download = lambda target, file, progress: whole(target, file, progress, OPTIONS)
    titles = sorted(catalogue.models)
    random.Random(seed).shuffle(titles)
    installation = Installation(
        Store(home, layers=()), InstallOptions(), adapter=Source(catalogue, port)
    )
    for title in titles:
        namespace, name = title.split("/")
        installation.install([PackageSpec(namespace, name, "1")])


def collect(home):
    """Collect again and again, as politely as `axon cache gc` and never more."""
    while True:
        Store(home, layers=()).gc()


def start(task, *arguments):
    """A process of its own, forked here so that it starts at once."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        task(*arguments)
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    raise AssertionError


def serve(catalogue, pause, channel):
    server = Server(catalogue, pause)
    os.write(channel, f"{server.server_port}\n".encode())
    os.close(channel)
    server.serve_forever()


class Storm:
    """One round: a store that is empty at first, workers, a collector, and their deaths."""

    def __init__(self, home, rng, processes, catalogue, pause):
        self.home, self.rng, self.catalogue = home, rng, catalogue
        reader, writer = os.pipe()
        self.server = start(serve, catalogue, pause, writer)
        os.close(writer)
        with os.fdopen(reader) as answer:
            self.port = int(answer.readline())
        self.processes = processes
        self.workers = set()
        self.collector = 0
        self.kills = self.cut = self.collector_kills = 0

    def run(self, kill_every):
        """Until every worker came to its end, killing one now and then."""
        deadline = time.monotonic() + DEADLINE_S
        self.collector = start(collect, self.home)
        for _ in range(self.processes):
            self.start_worker()
        try:
            while self.workers:
                assert time.monotonic() < deadline, "the storm does not come to its end"
                self.reap()
                time.sleep(self.rng.expovariate(1 / kill_every) if kill_every else 0.02)
                if kill_every:
                    self.kill_one()
        finally:
            for pid in (*self.workers, self.collector):
                end(pid)

    def start_worker(self):
        seed = self.rng.random()
        self.workers.add(start(work, self.home, self.catalogue, self.port, seed))

    def reap(self):
        for pid in list(self.workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.workers.remove(pid)
                assert os.waitstatus_to_exitcode(status) == 0, "an installation failed"

    def kill_one(self):
        victim = self.rng.choice([*self.workers, self.collector]) if self.workers else 0
        if victim == self.collector and victim:
            self.collector_kills += 1
            end(victim)
            self.collector = start(collect, self.home)
        elif victim:
            self.workers.remove(victim)
            os.kill(victim, signal.SIGSTOP)
            downloading = is_downloading(victim)
            if end(victim) == -signal.SIGKILL:
                self.kills += 1
                self.cut += downloading
                self.start_worker()

    def close(self):
        end(self.server)

    def sent(self):
        answer = net.get_json(f"http://127.0.0.1:{self.port}/-/sent", 1 << 20)
        return sum(answer.values())

    def check(self):
        """What has to hold at the end; gives the round's numbers."""
        store = Store(self.home, layers=())
        models = store.installed()
        assert sorted(model.spec.title for model in models) == sorted(self.catalogue.models)
        problems = [str(problem) for model in models for problem in store.verify(model)]
        if problems:
            raise IntegrityError("; ".join(problems))
        store.gc(everything=True)
        needed = {file.sha256 for m in models for file in m.manifest.spec.format.files}
        assert {path.name for path in store.blobs.iterdir()} == needed
        for folder in ("staging", "partial", "leases"):
            left = [path.name for path in (self.home / folder).iterdir()]
            assert left == [], f"{folder} has {left}"
        whole, sent = sum(self.catalogue.sizes.values()), self.sent()
        allowed = self.cut * PARALLEL * RUN * PART
        assert whole <= sent <= whole + allowed, f"{sent} bytes for {whole}, {self.cut} cut off"
        return Round(self.kills, self.cut, self.collector_kills, whole, sent - whole, allowed)


@dataclass
class Round:
    """What came of one round.

    Of the `kills`, `cut` processes were downloading; `again` bytes were sent more than once,
    of which `allowed` may be: the parts that each connection of those had asked for.
    """

    kills: int
    cut: int
    collector_kills: int
    bytes: int
    again: int
    allowed: int


def is_downloading(pid):
    """Whether a stopped process has a partial file open."""
    opened = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(str(link.readlink()))
    return any("/partial/" in name and not name.endswith(".lock") for name in opened)


def end(pid):
    """Kill a process of ours; how it ended."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def one_round(
    folder, seed, *, processes=16, models=8, blobs=20, most_bytes=1 << 20, kill_every=0.02,
    pause=0.002,
):  # fmt: skip
    """A storm from an empty store to the check at its end."""
    rng = random.Random(seed)
    catalogue = make_catalogue(rng, models, blobs, most_bytes)
    storm = Storm(folder / "home", rng, processes, catalogue, pause)
    try:
        storm.run(kill_every)
        return storm.check()
    finally:
        storm.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-every", type=float, default=0.02, help="seconds, on average")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds, until = [], time.monotonic() + options.seconds
    while time.monotonic() < until:
        seed = options.seed + len(rounds)
        with tempfile.TemporaryDirectory() as folder:
            made = one_round(
                Path(folder), seed, processes=options.processes, kill_every=options.kill_every
            )
        rounds.append(made)
        print(f"seed {seed}: {made}", flush=True)
    print(f"{len(rounds)} rounds, {sum(one.kills for one in rounds)} kills: sound each time")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in rounds], indent=2))


if __name__ == "__main__":
    main()
