# SPDX-License-Identifier: BUSL-1.1
import os

import numpy as np
import pytest

from mlos_core.errors import LoadFailed
from mlos_core.worker.samples import MOST, MOST_BYTES, Samples, read, read_file


def carried(samples):
    fd = samples.write()
    try:
        return read(fd)
    finally:
        os.close(fd)


def test_one_request_of_each_form_is_remembered_as_it_was():
    samples = Samples()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    text = np.array([b"a", b"\0b"], dtype=object)
    samples.keep({"x": x, "text": text})
    x[:] = 0
    samples.keep({"x": x, "text": text})
    samples.keep({"x": x[:1], "text": text})
    first, second = carried(samples)
    assert first["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert first["x"].dtype == np.float32
    assert first["text"].tolist() == [b"a", b"\0b"]
    assert second["x"].shape == (1, 3)


def test_what_is_remembered_is_bounded():
    samples = Samples()
    samples.keep({"x": np.zeros(MOST_BYTES + 1, np.uint8)})
    assert carried(samples) == []
    for size in range(2 * MOST):
        samples.keep({"x": np.zeros(size, np.uint8)})
    assert [len(one["x"]) for one in carried(samples)] == list(range(MOST))


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x91\x81\xa1x\x93\xa7float32\x91\x05\xc4\x01a"]
)
def test_a_damaged_memory_file_holds_no_samples(content):
    fd = os.memfd_create("damaged")
    try:
        os.write(fd, content)
        assert read(fd) == []
    finally:
        os.close(fd)


def test_given_inputs_are_read_from_an_npz_file(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones(3), text=np.array(["ä", "b"]), raw=np.array([b"c"]))
    inputs = read_file(str(path))
    assert inputs["x"].tolist() == [1, 1, 1]
    assert inputs["text"].tolist() == ["ä".encode(), b"b"]
    assert inputs["raw"].tolist() == [b"c"]


def test_a_file_that_holds_no_arrays_says_how_to_write_one(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.array([{}], dtype=object))
    for damaged in (path, tmp_path / "none.npz"):
        with pytest.raises(LoadFailed, match=r"cannot be read") as caught:
            read_file(str(damaged))
        assert "numpy.savez" in caught.value.hint
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(LoadFailed):
        read_file(str(path))
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(LoadFailed):
        read_file(str(tmp_path / "one.npy"))
