# SPDX-License-Identifier: BUSL-1.1
"""OCI manifests that no registry should hand out."""

import copy
import json

from . import Case

DIGEST = "sha256:" + "0123456789abcdef" * 4
RAW = "application/vnd.cncf.model.weight.v1.raw"
PATH = "org.cncf.model.filepath"
GOOD = {
    "schemaVersion": 2,
    "config": {"mediaType": "application/json", "digest": DIGEST, "size": 2},
    "layers": [
        {"mediaType": RAW, "digest": DIGEST, "size": 1, "annotations": {PATH: "m.onnx"}},
        {"mediaType": RAW, "digest": DIGEST, "size": 1, "annotations": {PATH: "n.onnx"}},
    ],
}


def artifact(label, reason, change):
    value = copy.deepcopy(GOOD)
    change(value)
    data = json.dumps(value).encode()
    return Case(f"artifact with {label}", lambda canary: data, reason, ".json")


def layer(label, reason, **fields):
    return artifact(label, reason, lambda value: value["layers"][1].update(fields))


def path(label, reason, name):
    return layer(label, reason, annotations={PATH: name})


def plain(label, reason, data):
    return Case(f"artifact that is {label}", lambda canary: data, reason, ".json")


CASES = [
    path("a path that climbs", "'..'", "../../canary"),
    path("an absolute path", "is absolute", "/etc/canary"),
    path("a control character", "control character", "a\x1bb"),
    path("a path twice", "comes twice", "m.onnx"),
    path("a path twice, in other case", "differ in case", "M.onnx"),
    path("a file as a folder", "is a file and the folder", "m.onnx/x"),
    layer("a file without a name", "says no name", annotations={}),
    layer("a digest in upper case", "digest", digest=DIGEST.upper()),
    layer("a digest with a newline", "digest", digest=DIGEST + "\n"),
    layer("another algorithm", "digest", digest="sha512:" + "0" * 128),
    layer("a digest that is a path", "digest", digest="sha256:../../" + "0" * 58),
    layer("a size below zero", "size", size=-1),
    layer("a size with a fraction", "size", size=1.5),
    layer("annotations that are a list", "annotations", annotations=["a"]),
    artifact("another schema", "schema version 1", lambda v: v.update(schemaVersion=1)),
    artifact("no layers", "missing required field `layers`", lambda v: v.pop("layers")),
    artifact("no config", "missing required field `config`", lambda v: v.pop("config")),
    artifact("thousands of layers", "length <= 10000",
             lambda v: v.update(layers=v["layers"][:1] * 10_001)),
    plain("megabytes", "larger than 4 MiB", b" " * (5 << 20)),
    plain("nested", "no artifact", b'{"annotations":' + b"[" * 100_000),
    plain("a list", "no artifact", b"[]"),
    plain("a page", "no artifact", b"<html>"),
    plain("not UTF-8", "no artifact", b'{"schemaVersion": 2, "mediaType": "\xff"}'),
]  # fmt: skip
