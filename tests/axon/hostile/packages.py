# SPDX-License-Identifier: BUSL-1.1
"""Sound archives that are no packages: their manifest and their files do not fit."""

import hashlib

from . import Case
from .tars import entry, zipped

HEAD = "apiVersion: axon.mlos.io/v1\nkind: Model\nmetadata: {name: a, namespace: b, version: '1'}\n"
WEIGHTS = b"weights"


def manifest(*files):
    rows = "".join(f"  - {{path: {p}, size: {s}, sha256: {d}}}\n" for p, s, d in files)
    return (HEAD + "spec:\n format:\n  files:\n" + rows).encode()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def package(label, reason, data, **files):
    contents = {"m.onnx": WEIGHTS, **files}
    entries = [entry(name, body) for name, body in contents.items() if body is not None]
    if data is not None:
        entries.insert(0, entry("manifest.yaml", data))
    return Case(f"package {label}", lambda canary: zipped(*entries), reason)


RIGHT = ("m.onnx", len(WEIGHTS), digest(WEIGHTS))

CASES = [
    package("without a manifest", "no axon package", None),
    package("with a manifest in a folder alone", "no axon package", None,
            **{"x/manifest.yaml": manifest(RIGHT)}),
    package("with a second manifest", "differ in case", manifest(RIGHT),
            **{"Manifest.yaml": b""}),
    package("with a file that is not listed", "beside what its manifest lists",
            manifest(RIGHT), **{"evil.pkl": b"cos\nsystem\n."}),
    package("without a file that is listed", "lacks 'other.onnx'",
            manifest(RIGHT, ("other.onnx", 1, digest(b"x")))),
    package("with another file of the same size", "sha256", manifest(RIGHT),
            **{"m.onnx": b"WEIGHTS"}),
    package("with a longer file", "has 8 bytes", manifest(RIGHT), **{"m.onnx": b"weights!"}),
    package("with an empty manifest", "not a valid manifest|Expected", b""),
    package("with a manifest that is too large", "larger than 4 MiB", b"#" * (5 << 20)),
    package("that lists its own manifest", "reserved",
            manifest(("manifest.yaml", 0, digest(b"")))),
    package("that lists a file outside", "spec.format.files\\[0\\].path",
            manifest(("../canary", 7, digest(WEIGHTS)))),
]  # fmt: skip
