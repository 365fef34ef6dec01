# SPDX-License-Identifier: BUSL-1.1
import os

import pytest
from mlos_plugin_tensorflow.files import find_model
from mlos_plugin_tensorflow.litert.files import model_file

from mlos_core.errors import LoadFailed


@pytest.fixture
def package(tmp_path):
    for name in ("a/saved_model.pb", "a/fingerprint.pb", "b.keras", "c/d.weights.h5", "e.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind", "found"),
    [
        ("a", "saved_model", "a"),
        ("a/saved_model.pb", "saved_model", "a"),
        ("b.keras", "keras", "b.keras"),
        ("c/d.weights.h5", "hdf5", "c/d.weights.h5"),
        ("c", "hdf5", "c/d.weights.h5"),
    ],
)
def test_a_model_is_known_by_what_lies_at_the_path(path, kind, found, package):
    assert find_model(package / path, None) == (kind, package / found)


def test_of_several_models_one_must_be_named(package):
    with pytest.raises(LoadFailed, match=r"3 models.*file: a, b\.keras, c/d\.weights\.h5"):
        find_model(package, None)
    assert find_model(package, "a").kind == "saved_model"
    for name in ("../b.keras", "e.txt", "z"):
        with pytest.raises(LoadFailed, match="has no model"):
            find_model(package, name)


def test_what_is_no_model_is_refused(package):
    with pytest.raises(LoadFailed, match="does not exist"):
        find_model(package / "none", None)
    with pytest.raises(LoadFailed, match="it loads SavedModel folders"):
        find_model(package / "e.txt", None)
    (package / "empty").mkdir()
    with pytest.raises(LoadFailed, match="is it the right folder"):
        find_model(package / "empty", None)


def test_a_pipe_on_which_loading_would_hang_is_no_model(tmp_path):
    for find, name in ((find_model, "pipe.keras"), (model_file, "pipe.tflite")):
        os.mkfifo(tmp_path / name)
        for path in (tmp_path, tmp_path / name):
            with pytest.raises(LoadFailed):
                find(path, None)


def test_a_tflite_file_is_found_in_a_folder(tmp_path):
    with pytest.raises(LoadFailed, match="does not exist"):
        model_file(tmp_path / "none.tflite", None)
    with pytest.raises(LoadFailed, match="is it the right folder"):
        model_file(tmp_path, None)
    one, two = tmp_path / "one.tflite", tmp_path / "two.tflite"
    one.write_bytes(b"")
    assert model_file(tmp_path, None) == model_file(one, None) == one
    two.write_bytes(b"")
    assert model_file(tmp_path, "two.tflite") == two
    with pytest.raises(LoadFailed, match=r"2 \.tflite files.*one\.tflite, two\.tflite"):
        model_file(tmp_path, None)
    with pytest.raises(LoadFailed, match="has no model"):
        model_file(tmp_path, "../one.tflite")
