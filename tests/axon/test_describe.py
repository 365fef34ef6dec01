# SPDX-License-Identifier: BUSL-1.1
"""Manifests filled from the files, and what is said where the author knows better."""

import gguf_writer as gg
import msgspec
import pytest

from axon_client import manifest as manifests
from axon_client import requirements
from axon_client.contradictions import contradictions
from axon_client.describe import WARNINGS, complete
from axon_client.errors import IntegrityError
from axon_client.introspect import Header
from axon_client.inventory import list_files
from axon_client.licences import find_licence, recognise, stated_in
from axon_client.manifest import (
    CPU,
    GPU,
    IO,
    Compute,
    ExecutionFile,
    Facts,
    Format,
    IOSpec,
    Metadata,
    ModelFile,
    Requirements,
    Space,
    Spec,
)
from mlos_core.errors import InvalidInput

FLOAT = 1


def new(**spec):
    return manifests.new(Metadata("digits", "local", "1.0"), Spec(**spec))


@pytest.fixture
def filled(folder):
    return lambda **spec: complete(new(**spec), folder)


def test_a_manifest_is_filled_from_the_model(folder, onnx, filled):
    (folder / "model.onnx").write_bytes(onnx(weights=["w"]))
    spec = filled().spec
    assert spec.format.execution_format == "onnx"
    assert [one.name for one in spec.io.inputs] == ["x"]
    assert spec.requirements.estimated
    assert spec.requirements.compute.memory.min_gb > 0
    assert spec.requirements.storage.min_gb > 0
    assert not spec.format.pickled


def test_what_is_complete_is_left_as_it_is(folder, filled):
    once = filled()
    assert complete(once, folder) == once


def test_files_whose_digest_is_known_are_not_hashed_again(folder, monkeypatch):
    known = {file.path: file for file in list_files(folder)}
    monkeypatch.setattr("axon_client.inventory.hash_file", None)
    assert complete(new(), folder, known=known).spec.format.files == list(known.values())


def test_a_known_digest_is_believed_and_a_listed_one_compared(folder):
    listed = list_files(folder)
    wrong = ModelFile("model.onnx", listed[2].size, "0" * 64)
    manifest = new(format=manifests.Format(files=listed))
    with pytest.raises(IntegrityError, match="the manifest says"):
        complete(manifest, folder, known={"model.onnx": wrong})


def test_the_author_wins_and_a_contradiction_is_a_warning(filled):
    said = IO([IOSpec("x", "int64", [-1, 4]), IOSpec("z", "float32", [1])], [])
    manifest = filled(io=said, model=Facts(parameters=1000, architecture="mine"))
    assert manifest.spec.io == said
    assert manifest.spec.model.architecture == "mine"
    warnings = manifest.metadata.annotations[WARNINGS]
    assert "input 'x': the manifest says int64, the model float32" in warnings
    assert "'z'" in warnings


def test_a_file_that_cannot_be_read_is_a_warning_and_no_error(tmp_path):
    (tmp_path / "digits.gguf").write_bytes(b"GGUF")
    manifest = complete(new(), tmp_path)
    assert "nothing was read of it" in manifest.metadata.annotations[WARNINGS]
    assert manifest.spec.format.execution_format == "gguf"


def test_a_pointer_in_the_place_of_the_model_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InvalidInput, match="Git LFS pointer"):
        complete(new(), tmp_path)


def test_a_saved_model_and_its_variables_are_one_model(tmp_path):
    from .test_introspect_tensorflow import SERVING, saved_model

    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(saved_model(SERVING))
    (tmp_path / "variables" / "variables.data-00000-of-00001").write_bytes(bytes(5000))
    spec = complete(new(), tmp_path).spec
    assert [(one.path, one.format) for one in spec.format.execution_files] == [
        ("saved_model.pb", "savedmodel")
    ]
    assert spec.framework.name == "tensorflow"
    assert {one.name for one in spec.io.inputs} == {"x", "name"}


@pytest.mark.parametrize(
    ("location", "error"), [("../../secret", IntegrityError), ("gone.bin", InvalidInput)]
)
def test_weights_outside_of_a_package_are_refused_whoever_lists_the_model(
    folder, onnx, location, error
):
    (folder / "model.onnx").write_bytes(onnx(external={"w": location}))
    models = [ExecutionFile("model.onnx", "onnx", "main")]
    for stated in (Format(), Format(files=list_files(folder), execution_files=models)):
        with pytest.raises(error, match="weights"):
            complete(new(format=stated), folder)


def test_texts_of_a_file_cannot_drive_a_terminal_through_the_manifest(tmp_path):
    keys = [gg.number("general.architecture", "a\x1b[31m"), gg.number("general.license", "m\x9bit")]
    (tmp_path / "digits.gguf").write_bytes(gg.write(keys, []))
    manifest = complete(new(), tmp_path)
    assert manifest.spec.model.architecture == "a [31m"
    assert manifest.metadata.license == "m it"


# --- contradictions ----------------------------------------------------------------------------

READ = Header(
    io=IO([IOSpec("x", "float32", [-1, 3]), IOSpec("s", "unknown", None)], []),
    parameters=1000,
    context_length=512,
)


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ({}, 0),
        ({"io": IO([IOSpec("x", "float32", [8, 3]), IOSpec("s", "int64", [2])], [])}, 0),
        ({"io": IO([IOSpec("x", "float32", [8, 3])], [])}, 1),
        ({"io": IO([IOSpec("x", "float16", [8, 3]), IOSpec("s", "int64", [2])], [])}, 1),
        ({"io": IO([IOSpec("x", "float32", [8, 4]), IOSpec("s", "int64", [2])], [])}, 1),
        ({"io": IO([IOSpec("x", "float32", [8]), IOSpec("s", "int64", [2])], [])}, 1),
        ({"io": IO([IOSpec("y", "float32", [8]), IOSpec("s", "int64", [2])], [])}, 2),
        ({"model": Facts(parameters=1050)}, 0),
        ({"model": Facts(parameters=2000)}, 1),
        ({"model": Facts(context_length=256)}, 0),
        ({"model": Facts(context_length=4096)}, 1),
    ],
)
def test_only_what_cannot_both_be_true_contradicts(said, count):
    assert len(contradictions(new(**said), READ)) == count


# --- requirements ------------------------------------------------------------------------------

MB = 10**6
DECODER = Header(
    parameters=2_000_000_000,
    weight_bytes=1_000 * MB,
    context_length=8192,
    cache_bytes_per_token=100_000,
)


def test_an_estimate_is_runtime_and_weights_and_cache():
    found = requirements.estimate([requirements.Weights("gguf", DECODER, 0)], disk=1_100 * MB)
    assert found.least == 60 * MB + 1_000 * MB + 2048 * 100_000
    assert found.most == 60 * MB + 1_000 * MB + 8192 * 100_000
    assert found.video == 1_000 * MB + 2048 * 100_000 + 500 * MB
    assert found.least_sum == (
        "60.0 MB runtime + 1.00 GB weights + 2048 tokens x 100000 bytes of keys and values"
    )


def test_a_short_context_is_not_stretched():
    header = msgspec.structs.replace(DECODER, context_length=512)
    found = requirements.estimate([requirements.Weights("gguf", header, 0)], disk=0)
    assert found.least == found.most == 60 * MB + 1_000 * MB + 512 * 100_000


def test_without_a_count_the_files_are_weighed_and_a_pipeline_is_added_up():
    one = requirements.Weights("onnx", Header(), 10 * MB)
    found = requirements.estimate([one, one], disk=20 * MB)
    assert found.least == found.most == 2 * (64 * MB + 15 * MB)


def test_the_authors_needs_are_kept_and_the_rest_is_estimated():
    reckoned = requirements.estimate([requirements.Weights("gguf", DECODER, 0)], disk=1_100 * MB)
    said = Requirements(Compute(CPU(4, 16), Space(3, 6)))
    filled = requirements.fill(said, reckoned)
    assert (filled.compute.cpu, filled.compute.memory) == (CPU(4, 16), Space(3, 6))
    assert filled.storage == Space(1.1, 1.1)
    assert filled.compute.gpu == GPU(recommended=True, min_vram_gb=1.71)
    assert filled.estimated
    whole = Requirements(
        Compute(CPU(1, 1), Space(1, 1), GPU(required=True, min_vram_gb=2)), Space(1, 1)
    )
    assert requirements.fill(whole, reckoned) == whole


@pytest.mark.parametrize(
    ("size", "gb"), [(0, 0), (1, 0.001), (69 * MB, 0.069), (1_234 * MB, 1.24), (25_400 * MB, 26)]
)
def test_gigabytes_are_rounded_up(size, gb):
    assert requirements.in_gb(size) == gb


# --- licences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("                Apache License\n          Version 2.0, January 2004\n", "Apache-2.0"),
        ("MIT License\n\nCopyright (c) 2026", "MIT"),
        ("Permission is hereby granted, free of charge, to any person\nobtaining a copy", "MIT"),
        ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007", "GPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3", "LGPL-3.0"),
        ("All rights reserved.", ""),
        ("", ""),
    ],
)
def test_a_licence_is_known_by_its_first_words(text, name):
    assert recognise(text) == name


def test_a_model_card_speaks_before_a_licences_text(tmp_path):
    (tmp_path / "LICENSE").write_text("MIT License")
    assert find_licence(tmp_path, ["LICENSE"]) == "MIT"
    (tmp_path / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\nlicense: no\n")
    assert find_licence(tmp_path, ["LICENSE", "README.md"]) == "apache-2.0"
    assert stated_in("license: mit\n") == ""


def test_two_licences_are_not_chosen_between(tmp_path):
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "COPYING").write_text("GNU GENERAL PUBLIC LICENSE Version 2")
    assert find_licence(tmp_path, ["LICENSE", "COPYING"]) == ""


def test_the_manifest_lists_the_texts_of_licences(folder, filled):
    (folder / "LICENSE.txt").write_text("Apache License\nVersion 2.0")
    about = filled().metadata
    assert (about.license, about.license_files) == ("Apache-2.0", ["LICENSE.txt"])
