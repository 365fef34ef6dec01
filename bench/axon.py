# SPDX-License-Identifier: BUSL-1.1
"""What axon costs: a large model over loopback, and commands that should answer at once.

Each contestant fetches the same model from the same server into a new file or store, in a
fresh process, in rounds whose order is shuffled anew:

    curl+sha256sum   curl | tee FILE | sha256sum
    curl+openssl     the same with OpenSSL's SHA-256, which uses the processor's instructions
    download         axon's downloader alone
    install          a whole installation: downloaded, verified, flushed, described, linked
    curl+sync        curl+sha256sum, and the file flushed as an installation's is

Speeds are those of medians. `--json` writes machine, rows and every round.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import report
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
BASE = "curl+sha256sum"
PATIENCE_S = 600.0
MEMORY = """
from pathlib import Path
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""
"""The most memory that the process had, in KiB; that of its parent is no part of it."""
DOWNLOAD = """
import sys
from pathlib import Path
from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.progress import silent
url, sha256, target = sys.argv[1:]
print(net.download(Path(target), RemoteFile("model", (url,), sha256=sha256), silent).sha256)
"""
INSTALL = """
import sys
import axon_client
from axon_client.spec import UrlSpec
url, sha256, target = sys.argv[1:]
(file,) = axon_client.install(UrlSpec(url, sha256), target).manifest.spec.format.files
print(file.sha256)
"""
PROGRAMS = {"download": DOWNLOAD + MEMORY, "install": INSTALL + MEMORY}
SHELL = {
    "curl+sha256sum": 'curl -sf "$1" | tee "$2" | sha256sum',
    "curl+openssl": 'curl -sf "$1" | tee "$2" | openssl dgst -sha256 -r',
    "curl+sync": 'curl -sf "$1" | tee "$2" | sha256sum && sync "$2"',
}
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "axon --help": ["-m", "axon_client.cli", "--help"],
    "axon list": ["-m", "axon_client.cli", "list"],
    "axon version": ["-m", "axon_client.cli", "version"],
}


@dataclass(frozen=True)
class Model:
    """The file that everybody fetches."""

    url: str
    sha256: str
    size: int


@dataclass
class Samples:
    """What the rounds gave: seconds, and the most memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def write_model(path: Path, size: int) -> str:
    """A safetensors file of `size` bytes of noise; its digest."""
    length = size - 8 - 128
    tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    header = json.dumps({"weights": tensor}).encode().ljust(128)
    digest, noise = hashlib.sha256(), random.Random(1).randbytes(1 << 20)
    with path.open("wb") as file:
        for block in (len(header).to_bytes(8, "little"), header):
            file.write(block)
            digest.update(block)
        left, number = length, 0
        while left:
            block = (number.to_bytes(8, "little") + noise[8:])[:left]
            file.write(block)
            digest.update(block)
            left, number = left - len(block), number + 1
    return digest.hexdigest()


@contextlib.contextmanager
def server(path: Path) -> Iterator[str]:
    """The URL of a file that is served."""
    command = [sys.executable, "-P", str(HERE / "axon_server.py"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/{path.name}"
        finally:
            process.kill()


def fetch(contestant: str, model: Model, folder: Path) -> tuple[float, int]:
    """Seconds and bytes of memory of one contestant, which ends with the right digest."""
    target = str(folder / "target")
    if contestant in SHELL:
        command = ["bash", "-c", SHELL[contestant], "bash", model.url, target]
    else:
        program = PROGRAMS[contestant]
        command = [sys.executable, "-P", "-c", program, model.url, model.sha256, target]
    env = os.environ | {"AXON_HOME": str(folder / "home")}
    seconds, output = run(command, env)
    digest, *memory = output.split()
    if digest != model.sha256:
        raise SystemExit(f"{contestant} ended with {output!r}")
    return seconds, int(memory[0]) << 10 if contestant in PROGRAMS else 0


def run(command: list[str], env: dict[str, str]) -> tuple[float, str]:
    """Seconds, and what was printed."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, env=env)
        # Waiting with a time-out looks every 50 ms, which is as long as some of what is timed.
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        status = process.wait()
        seconds = time.perf_counter() - began
        watchdog.cancel()
        if status:
            raise SystemExit(f"{command} ended with {status}")
        out.seek(0)
        return seconds, out.read().decode()


def in_rounds(
    names: list[str], rounds: int, measure: Callable[[str], tuple[float, int]]
) -> dict[str, Samples]:
    """Everybody once in each round, and once before the first to warm up."""
    found, order = {name: Samples() for name in names}, random.Random(1)
    for number in range(rounds + 1):
        for name in order.sample(names, len(names)):
            seconds, memory = measure(name)
            if number:
                found[name].seconds.append(seconds)
                found[name].memory.append(memory)
    return found


def downloads(model: Model, folder: Path, names: list[str], rounds: int) -> dict[str, Samples]:
    def measure(name: str) -> tuple[float, int]:
        os.sync()  # nobody pays for what the one before left to be written
        with tempfile.TemporaryDirectory(dir=folder) as place:
            return fetch(name, model, Path(place))

    return in_rounds(names, rounds, measure)


def answers(model: Model, folder: Path, rounds: int) -> dict[str, Samples]:
    """Start-up, and an installation of what is there."""
    home = str(folder / "home")
    install = ["-c", INSTALL, model.url, model.sha256, home]
    again = ["-m", "axon_client.cli", "install"]
    title = f"https/127.0.0.1/{Path(model.url).stem}@0.0.0+{model.sha256[:12]}"
    commands = {
        **COMMANDS,
        "axon install URL, there already": [*again, f"{model.url}#sha256={model.sha256}"],
        "axon install NAME, there already": [*again, title],
    }
    env = os.environ | {"AXON_HOME": home}
    run([sys.executable, "-P", *install], env)

    def measure(name: str) -> tuple[float, int]:
        return run([sys.executable, "-P", *commands[name]], env)[0], 0

    return in_rounds(list(commands), rounds, measure)


def rows(case: str, found: dict[str, Samples], size: int, base: str) -> list[report.Row]:
    """Medians, and how many times the base's speed that is."""
    reference = statistics.median(found[base].seconds)
    return [
        {
            "contestant": name,
            "case": case,
            "n": len(samples.seconds),
            "median_s": round(statistics.median(samples.seconds), 4),
            "mb_per_s": round(size / statistics.median(samples.seconds) / 1e6, 1),
            "speed": round(reference / statistics.median(samples.seconds), 3),
            "memory_mb": round(max(samples.memory) / 1e6, 1),
            "beyond_base_ms": round((statistics.median(samples.seconds) - reference) * 1e3, 1),
            "seconds": [round(value, 4) for value in samples.seconds],
        }
        for name, samples in found.items()
    ]


def show(console: Console, made: list[report.Row]) -> None:
    table = Table(title=made[0]["case"], title_justify="left")
    shown = ("mb_per_s", "speed", "memory_mb") if made[0]["mb_per_s"] else ("beyond_base_ms",)
    columns = ["contestant", "n", "median_s", *shown]
    for name in columns:
        table.add_column(name, justify="left" if name == "contestant" else "right")
    for row in made:
        table.add_row(*("-" if row[name] == 0.0 else str(row[name]) for name in columns))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names, console = [*SHELL, *PROGRAMS], Console(width=110)
    if not shutil.which("openssl"):
        names.remove("curl+openssl")
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        folder, path = Path(place), Path(place) / "model.safetensors"
        sha256 = write_model(path, args.megabytes * 10**6)
        with server(path) as url:
            model = Model(url, sha256, path.stat().st_size)
            fetched = downloads(model, folder, names, args.rounds)
            small = folder / "small.safetensors"
            quick = Model(url, write_model(small, 10**6), 10**6)
            with server(small) as other:
                quick = Model(other, quick.sha256, quick.size)
                asked = answers(quick, folder, 3 * args.rounds)
    made = rows(f"{args.megabytes} MB over loopback", fetched, model.size, BASE)
    answered = rows("commands", asked, 0, "axon version")
    show(console, made)
    show(console, answered)
    if args.json:
        report.write(args.json, report.machine(), [*made, *answered])


if __name__ == "__main__":
    main()
