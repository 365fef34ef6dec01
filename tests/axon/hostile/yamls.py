# SPDX-License-Identifier: BUSL-1.1
"""Manifests that are no YAML that axon reads, or say what no manifest may."""

from . import Case

DIGEST = "0123456789abcdef" * 4
GOOD = f"""
apiVersion: axon.mlos.io/v1
kind: Model
metadata: {{name: a, namespace: b, version: "1", description: d, created: 2024-01-02T03:04:05Z}}
spec:
  format:
    files:
    - {{path: m.onnx, size: 12, sha256: {DIGEST}}}
    - {{path: t.json, size: 0, sha256: {DIGEST}}}
    execution_files:
    - {{path: m.onnx, format: onnx, type: main}}
  io: {{inputs: [{{name: x, dtype: float32, shape: [1]}}]}}
  requirements: {{compute: {{memory: {{min_gb: 2}}}}}}
  dependencies: {{models: [hf/other@^1]}}
"""


def yaml(label, reason, text):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return Case(f"yaml {label}", lambda canary: data, reason, ".yaml")


def changed(label, reason, old, new):
    assert old in GOOD, old
    return yaml(f"with {label}", reason, GOOD.replace(old, new, 1))


def laughs():
    lines = ['a0: &a0 ["lol"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


SHAPES = [
    yaml("alias bomb", "line 2 has an alias", laughs()),
    yaml("alias to itself", "has an alias", "a: &a [*a]"),
    yaml("merge bomb", "has an alias", "a: &a {x: 1}\nb: {<<: [*a, *a]}"),
    yaml("merge key", "unknown field `<<`|unknown field", GOOD + "<<: {kind: Pod}\n"),
    yaml("tag of an object", "has a tag", 'a: !!python/object/apply:os.system ["true"]'),
    yaml("tag of binary", "has a tag", "a: !!binary aGk="),
    yaml("tag of a set", "has a tag", "a: !!set {b}"),
    yaml("local tag", "has a tag", "a: !evil b"),
    yaml("tag of text", "has a tag", "a: ! b"),
    yaml("tag by a handle", "has a tag", "%TAG !e! tag:evil,2000:\n---\na: !e!b c"),
    yaml("deep sequence", "more than 64 levels", "[" * 200_000),
    yaml("deep mapping", "more than 64 levels", "{a: " * 200_000),
    yaml("deep block", "more than 64 levels", "- " * 200_000 + "a"),
    yaml("key twice", "a second time", GOOD + "kind: Model\n"),
    yaml("key twice, once in quotes", "a second time", GOOD + '"kind": Model\n'),
    yaml("key twice inside", "a second time", GOOD.replace("name: a,", "name: a, name: c,")),
    yaml("key that is a list", "not text", "? [a, b]\n: c"),
    yaml("key that is a mapping", "not text", "? {a: b}\n: c"),
    yaml("huge document", "larger than 4 MiB", "#" * (5 << 20)),
    yaml("hundreds of thousands of values", "more than 400000 values", "-\n" * 500_000),
    yaml("two documents", "single document", GOOD + "---\n" + GOOD),
    yaml("list", "Expected `object`", "- a"),
    yaml("text", "Expected `object`", "just text"),
    yaml("nothing", "Expected `object`", ""),
    yaml("zero byte", "not a valid manifest", b"a: \x00"),
    yaml("bytes that are not UTF-8", "not a valid manifest", b"a: \xff\xfe\xfd"),
    yaml("surrogate", "not a valid manifest", "a: \ud800"),
    yaml("unclosed list", "not a valid manifest", "a: ["),
    yaml("tab", "not a valid manifest", "a:\n\t- b"),
    yaml("number in base 60 of a million digits", "unknown field|Expected", GOOD.replace(
        "size: 12", "size: 1" + ":59" * 300_000)),
]  # fmt: skip

FILES = [
    changed("a path that climbs", "files\\[1\\].path.*'..'", "path: t.json", "path: ../../canary"),
    changed("an absolute path", "is absolute", "path: t.json", "path: /etc/passwd"),
    changed("a drive", "is absolute", "path: t.json", "path: 'C:\\\\x'"),
    changed("a backslash", "backslash", "path: t.json", "path: 'a\\b'"),
    changed("a newline in a path", "control character", "path: t.json", 'path: "a\\nb"'),
    changed("an override in a path", "control character", "path: t.json", 'path: "a\\u202eb"'),
    changed("a full-width slash", "look like", "path: t.json", 'path: "..\\uff0fb"'),
    changed("a device's name", "device on Windows", "path: t.json", "path: nul"),
    changed("an empty path", "length >= 1", "path: t.json", 'path: ""'),
    changed("a path of kilobytes", "length <= 1024", "path: t.json", f"path: {'x' * 5000}"),
    changed("the manifest among its files", "reserved", "path: t.json", "path: manifest.yaml"),
    changed("a path twice", "comes twice", "path: t.json", "path: m.onnx"),
    changed("a path twice, in other case", "differ in case", "path: t.json", "path: M.onnx"),
    changed("a path in two normal forms", "Unicode normalisation",
            "path: t.json, size: 0", 'path: "e\\u0301", size: 0, sha256: ' + DIGEST
            + '}\n    - {path: "\\u00e9", size: 0'),
    changed("a file as a folder", "is a file and the folder", "path: t.json", "path: m.onnx/t"),
    changed("a model that is not listed", "execution_files\\[0\\].path", "- {path: m.onnx, format",
            "- {path: n.onnx, format"),
    changed("a model that climbs", "execution_files\\[0\\].path", "- {path: m.onnx, format",
            "- {path: ../../canary, format"),
    changed("a model that is absolute", "execution_files\\[0\\].path", "- {path: m.onnx, format",
            "- {path: /bin/sh, format"),
    changed("a licence that climbs", "license_files\\[0\\]", "name: a,",
            "name: a, license_files: [../../canary],"),
    changed("a licence that is no file", "license_files\\[0\\]", "name: a,",
            "name: a, license_files: [LICENSE],"),
    changed("a digest in upper case", "files\\[0\\].sha256.*64 lower-case", DIGEST, DIGEST.upper()),
    changed("a digest with a newline", "files\\[0\\].sha256", DIGEST, f'"{DIGEST}\\n"'),
    changed("a short digest", "files\\[0\\].sha256", DIGEST, DIGEST[:-1]),
    changed("a digest with its algorithm", "files\\[0\\].sha256", DIGEST, f"sha256:{DIGEST}"),
    changed("a digest that is a number", "files\\[0\\].sha256", DIGEST, "1" * 15),
    changed("a digest in other digits", "files\\[0\\].sha256", DIGEST, f'"{chr(0x661) * 64}"'),
    changed("a size below zero", "files\\[0\\].size", "size: 12", "size: -1"),
    changed("a size beyond 64 bits", "files\\[0\\].size", "size: 12", "size: 9999999999999999999"),
    changed("a size with a fraction", "files\\[0\\].size", "size: 12", "size: 1.5"),
    changed("a size in hexadecimal", "files\\[0\\].size", "size: 12", "size: 0xC"),
    changed("a size that is true", "files\\[0\\].size", "size: 12", "size: true"),
]  # fmt: skip

FIELDS = [
    changed("a version that is a number", "put the value in quotes",
            'version: "1"', "version: 1.0"),
    changed("a version that is an option", "metadata.version", 'version: "1"', 'version: "-rf"'),
    changed("a version with a slash", "metadata.version", 'version: "1"', 'version: "../1"'),
    changed("a version with a newline", "metadata.version", 'version: "1"', 'version: "1\\n"'),
    changed("a version of kilobytes", "metadata.version", 'version: "1"', f"version: {'v' * 999}"),
    changed("a name that climbs", "metadata.name", "name: a,", "name: ../../a,"),
    changed("a name that is hidden", "metadata.name", "name: a,", "name: .ssh,"),
    changed("a name with a version", "metadata.name", "name: a,", "name: a@1,"),
    changed("a name with empty parts", "metadata.name", "name: a,", "name: a//b,"),
    changed("a name of many parts", "metadata.name", "name: a,", f"name: {'a/' * 20}a,"),
    changed("a name with a full-width letter", "metadata.name", "name: a,", "name: \uff41,"),
    changed("a namespace with a slash", "metadata.namespace", "namespace: b", "namespace: b/c"),
    changed("no name", "missing required field `name`", "name: a,", ""),
    changed("an escape sequence", "control character", "description: d",
            'description: "\\e[2Jd"'),
    changed("a zero character", "control character", "description: d", 'description: "\\0d"'),
    changed("reversed text", "control character", "description: d", 'description: "\\u202ed"'),
    changed("an escape sequence in a key", "control character", "spec:", '"\\e[2J": 1\nspec:'),
    changed("a description that is a list", "metadata.description", "description: d",
            "description: [d]"),
    changed("a moment that is none", "metadata.created", "2024-01-02T03:04:05Z", "yesterday"),
    changed("an unknown field", "unknown field `run`", "kind: Model", "kind: Model\nrun: sh"),
    changed("an unknown field inside", "unknown field `exec`", "format: onnx,", "exec: sh,"),
    changed("another version of manifests", "apiVersion", "axon.mlos.io/v1", "axon.mlos.io/v2"),
    changed("another kind", "kind", "kind: Model", "kind: Pod"),
    changed("a shape of words", "shape\\[0\\]", "shape: [1]", "shape: [x]"),
    changed("memory that is no number", "min_gb", "min_gb: 2", "min_gb: .nan"),
    changed("memory below zero", "min_gb", "min_gb: 2", "min_gb: -1"),
    changed("memory beyond all machines", "min_gb", "min_gb: 2", "min_gb: 1.0e+300"),
    changed("a dependency that climbs", "dependencies.models\\[0\\]", "hf/other@^1",
            "hf/../other"),
    changed("a dependency that is a path", "dependencies.models\\[0\\]", "hf/other@^1",
            "./other"),
    changed("a dependency that is a URL", "dependencies.models\\[0\\]", "hf/other@^1",
            "'https://evil.example/x'"),
    changed("a dependency with a newline", "dependencies.models\\[0\\]", "hf/other@^1",
            '"hf/other@1\\n"'),
    changed("dependencies that are a mapping", "dependencies.models", "[hf/other@^1]",
            "{hf: other}"),
]  # fmt: skip

CASES = [*SHAPES, *FILES, *FIELDS]
