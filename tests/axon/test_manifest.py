# SPDX-License-Identifier: BUSL-1.1
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axon_client import manifest as manifests
from axon_client.manifest import Metadata, Spec
from mlos_core.errors import InvalidInput

DIGEST = "0123456789abcdef" * 4

COMPLETE = f"""
apiVersion: axon.mlos.io/v1
kind: Model
metadata:
  name: org/bert-base
  namespace: hf
  version: "1.0"
  description: A language model
  authors: [{{name: Ada, email: ada@example.org, organization: Example}}]
  license: Apache-2.0
  homepage: https://example.org
  documentation: https://example.org/docs
  created: 2024-01-02T03:04:05Z
  updated: "2024-01-02T03:04:05Z"
  tags: [nlp]
spec:
  framework: {{name: pytorch, version: 2.0.0}}
  format:
    type: pytorch
    execution_format: onnx
    multi_encoder: seq2seq
    files:
    - {{path: onnx/model.onnx, size: 12, sha256: {DIGEST}}}
    - {{path: tokenizer.json, size: 0, sha256: {DIGEST}}}
    execution_files:
    - {{path: onnx/model.onnx, format: onnx, type: main}}
  io:
    inputs:
    - name: input_ids
      dtype: int64
      shape: [-1, 128]
      description: Tokens
      preprocessing: {{type: tokenization, tokenizer: tokenizer.json, tokenizer_type: bert,
                       config: {{lower: true}}}}
    outputs: [{{name: logits, dtype: float32, shape: [-1, 2]}}]
  requirements:
    compute:
      cpu: {{min_cores: 2, recommended_cores: 4}}
      memory: {{min_gb: 2, recommended_gb: 4.5}}
      gpu: {{required: false, recommended: true, min_vram_gb: 4, cuda_version: "12"}}
    storage: {{min_gb: 1, recommended_gb: 2}}
  performance:
    inference_time: {{cpu: 50ms}}
    throughput: {{cpu: 20/s}}
    accuracy: {{top1: 0.9}}
    dataset: GLUE
  dependencies:
    models: [hf/other@1]
    packages: [{{name: transformers, version: ">=4"}}]
distribution:
  package: {{url: "https://example.org/a.axon", size: 5, sha256: {DIGEST}, mirrors: ["https://m"]}}
  registry: {{url: "https://example.org", namespace: hf}}
"""

MINIMAL = """
apiVersion: axon.mlos.io/v1
kind: Model
metadata: {name: a, namespace: b, version: "1"}
"""


def test_every_field_of_the_original_is_read():
    manifest = manifests.decode(COMPLETE.encode())
    assert manifest.title == "hf/org/bert-base@1.0"
    assert manifest.metadata.created == manifest.metadata.updated
    assert manifest.spec.io.inputs[0].shape == [-1, 128]
    assert manifest.spec.requirements.compute.gpu.cuda_version == "12"


@pytest.mark.parametrize("text", [COMPLETE, MINIMAL])
def test_a_manifest_survives_being_written_and_read(text):
    manifest = manifests.decode(text.encode())
    assert manifests.decode(manifests.encode(manifest)) == manifest


def test_a_manifest_can_travel_as_json_and_msgpack():
    plain = manifests.decode(COMPLETE.encode()).as_dict()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plain)) == plain
    assert msgspec.convert(plain, manifests.Manifest).as_dict() == plain


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("kind: Model", "kind: Pod", "kind"),
        ("axon.mlos.io/v1", "axon.mlos.io/v2", "apiVersion"),
        ("name: org/bert-base", "name: ../bert", "metadata.name"),
        ("name: org/bert-base", "name: org//bert", "metadata.name"),
        ("namespace: hf\n", "namespace: a/b\n", "metadata.namespace"),
        ('version: "1.0"', 'version: "-rf"', "metadata.version"),
        ('version: "1.0"', "version: 1.0", "metadata.version"),
        ("license:", "licence:", "licence"),
        (f"sha256: {DIGEST}", f"sha256: {DIGEST[:-1]}", "spec.format.files[0].sha256"),
        (f"sha256: {DIGEST}", f"sha256: {DIGEST.upper()}", "spec.format.files[0].sha256"),
        (f"sha256: {DIGEST}", f'sha256: "{DIGEST}\\n"', "spec.format.files[0].sha256"),
        ("size: 12", "size: -1", "spec.format.files[0].size"),
        ("path: tokenizer.json", "path: /etc/passwd", "spec.format.files[1].path"),
        ("path: tokenizer.json", "path: a/../../b", "spec.format.files[1].path"),
        ("path: tokenizer.json", "path: a//b", "spec.format.files[1].path"),
        ("path: tokenizer.json", "path: 'a\\b'", "spec.format.files[1].path"),
        ("path: tokenizer.json", "path: manifest.yaml", "spec.format.files[1].path"),
        ("path: tokenizer.json", "path: onnx/model.onnx", "spec.format.files"),
        ("path: tokenizer.json", "path: ONNX/model.onnx", "differ in case"),
        ("path: tokenizer.json", "path: a/nul.txt", "spec.format.files[1].path"),
        ("license: Apache-2.0", "license_files: [LICENSE]", "metadata.license_files[0]"),
        ("hf/other@1", "other@1", "spec.dependencies.models[0]"),
        ("hf/other@1", "hf/../other", "spec.dependencies.models[0]"),
        ("description: A language model", 'description: "a\\e[31m"', "control character"),
        ("path: tokenizer.json", "path: onnx", "spec.format.files"),
        ("- {path: onnx/model.onnx, format", "- {path: m, format", "execution_files[0].path"),
        ("shape: [-1, 128]", "shape: [x]", "spec.io.inputs[0].shape"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(old, new, field):
    assert old in COMPLETE
    with pytest.raises(InvalidInput) as caught:
        manifests.decode(COMPLETE.replace(old, new, 1).encode(), source="m.yaml")
    assert "m.yaml" in caught.value.message
    assert field in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 200_000,
        b"a: [",
        b"\x00",
        b"\xff\xfe",
        b"a: &a 1\nb: *a",
        b"- 1",
        b"x" * (5 << 20),
    ],
)
def test_what_is_no_manifest_is_refused_without_harm(data):
    with pytest.raises(InvalidInput, match=r"m\.yaml"):
        manifests.decode(data, source="m.yaml")


def test_a_version_that_yaml_takes_for_a_number_gets_a_hint():
    with pytest.raises(InvalidInput) as caught:
        manifests.decode(MINIMAL.replace('"1"', "1.0").encode())
    assert "quotes" in caught.value.hint


def test_a_misspelt_field_is_corrected_and_a_newer_one_is_not_skipped():
    with pytest.raises(InvalidInput) as caught:
        manifests.decode(COMPLETE.replace("license:", "licence:").encode())
    assert "license" in caught.value.hint
    with pytest.raises(InvalidInput) as caught:
        manifests.decode(MINIMAL.replace("name: a", "zzz: 1, name: a").encode())
    assert "newer axon" in caught.value.hint


def test_annotations_are_kept_whatever_they_are_called():
    text = MINIMAL.replace("name: a", "annotations: {org.example.run: '7'}, name: a")
    manifest = manifests.decode(text.encode())
    assert manifests.decode(manifests.encode(manifest)).metadata.annotations == {
        "org.example.run": "7"
    }


def test_what_yaml_1_1_takes_for_truth_or_base_60_is_text():
    text = MINIMAL.replace("name: a", "tags: [no, on, 1:30, 0x10, 010], name: a")
    assert manifests.decode(text.encode()).metadata.tags == ["no", "on", "1:30", "0x10", "010"]


@pytest.mark.parametrize(
    "word", ["no", "null", "~", "1", "1.5", "1e5", "true", "2024-01-02", "0x1", "", "=", "<<"]
)
def test_a_text_that_looks_like_something_else_survives(word):
    made = manifests.new(Metadata(name="a", namespace="b", version="1", description=word), Spec())
    assert manifests.decode(manifests.encode(made)).metadata.description == word


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.yaml"):
        manifests.load(tmp_path / "none.yaml")


def test_a_manifest_that_is_made_is_checked_like_one_that_is_read():
    with pytest.raises(InvalidInput, match=r"metadata\.name"):
        manifests.new(Metadata(name="a b", namespace="x", version="1"), Spec())


@given(st.text(alphabet=st.sampled_from("ab./\\:\0\n "), max_size=12))
def test_an_accepted_path_stays_in_its_folder(path):
    if manifests.path_problem(path) == "":
        whole = Path("/root") / path
        assert whole.parts[:2] == ("/", "root")
        assert ".." not in whole.parts
        assert whole.relative_to("/root").as_posix() == path


def test_the_example_of_the_documentation_is_a_manifest_with_every_kind_of_field():
    page = Path(__file__).parents[2] / "docs" / "packages.md"
    text = page.read_text().partition("```yaml\n")[2].partition("```")[0]
    manifest = manifests.decode(text.encode(), source="packages.md")
    assert manifest.title == "acme/digits@1.2.0"
    assert manifest.spec.requirements.estimated
    assert manifest.spec.dependencies.models == ["acme/tokens@^1.2"]
