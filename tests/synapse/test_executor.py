# SPDX-License-Identifier: BUSL-1.1
"""The executor's edges: what it refuses, what it shares, what it gives back."""

import threading

import numpy as np
import pytest
import tiny_llm

from mlos_core.errors import Closed, InvalidInput, LoadFailed, OutOfMemory, Unsupported
from mlos_core.synapse import memory
from mlos_core.synapse.config import LayerConfig, RopeConfig
from mlos_core.synapse.executor import Executor
from mlos_core.synapse.files import ModelFiles, TextFiles
from mlos_core.synapse.native import choose_isa


def make(files=None, **options):
    options = {"threads": 2, "isa": choose_isa(), "kv_blocks": 8} | options
    return Executor(files or tiny_llm.make(), **options)


@pytest.fixture(scope="module")
def executor():
    executor = make()
    yield executor
    executor.close()


def arrays(**changes):
    """The arguments of a good step: sequence 0 of three tokens, sequence 1 of one."""
    good = {
        "tokens": [5, 6, 7, 8],
        "positions": [0, 1, 2, 0],
        "sequences": [0, 0, 0, 1],
        "tables": [[0, 1], [2, 3]],
        "wanted": [2, 3],
    }
    return {name: np.array(value, np.int32) for name, value in (good | changes).items()}


def test_logits_come_for_the_wanted_rows_alone(executor):
    every = executor.forward(**arrays(wanted=[0, 1, 2, 3])).copy()
    assert every.shape == (4, executor.vocab_size)
    assert every.dtype == np.float32
    some = executor.forward(**arrays())
    assert some.tobytes() == every[2:].tobytes()
    assert executor.forward(**arrays(wanted=[])).shape == (0, executor.vocab_size)


def test_hidden_states_are_those_before_the_head(executor):
    states = executor.hidden(**arrays()).astype(np.float64)
    assert states.shape == (2, executor.hidden_size)
    # The final norm of a tiny model has weights around 1.
    assert np.sqrt(np.mean(states**2, axis=1)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [5, 6, 80, 8]}, "token 80 of row 2"),
        ({"tokens": [-1, 6, 7, 8]}, "token -1 of row 0"),
        ({"positions": [0, 1, 2, 4096]}, "context of 4096"),
        ({"positions": [-1, 0, 1, 0]}, "position -1"),
        ({"positions": [0, 1, 3, 0]}, "position 3 follows 1"),
        ({"positions": [0, 1, 1, 0]}, "position 1 follows 1"),
        ({"positions": [0, 1, 2, 64]}, "more than 2 blocks"),
        ({"sequences": [0, 0, 0, 2]}, "sequence 2 of 2"),
        ({"sequences": [0, 0, 1, 0], "positions": [0, 1, 0, 2]}, "do not stand together"),
        ({"tables": [[8, 1], [2, 3]]}, "block 0 of sequence 0 is 8"),
        ({"tables": [[0, 1], [-1, 3]]}, "block 0 of sequence 1 is -1"),
        ({"tables": [[0, 1], [0, 3]]}, "block 0 is written by the sequences 0 and 1"),
        ({"wanted": [3, 2]}, "must ascend"),
        ({"wanted": [2, 2]}, "must ascend"),
        ({"wanted": [4]}, "below 4"),
        ({"wanted": [-1]}, "below 4"),
        ({"tokens": [5, 6, 7]}, "3 tokens, 4 positions"),
        ({"tokens": [], "positions": [], "sequences": [], "wanted": []}, "0 rows"),
    ],
)
def test_every_index_is_checked(executor, changes, message):
    before = executor.forward(**arrays()).copy()
    with pytest.raises(InvalidInput, match=message):
        executor.forward(**arrays(**changes))
    assert executor.forward(**arrays()).tobytes() == before.tobytes()


def test_indices_are_int32_and_tables_have_two_dimensions(executor):
    with pytest.raises(InvalidInput, match="int64"):
        executor.forward(**arrays() | {"tokens": np.arange(4)})
    with pytest.raises(InvalidInput, match="contiguous"):
        executor.forward(**arrays() | {"tokens": np.arange(8, dtype=np.int32)[::2]})
    with pytest.raises(InvalidInput, match="1 dimensions"):
        executor.forward(**arrays() | {"tables": np.arange(4, dtype=np.int32)})


def test_a_block_may_be_read_in_the_step_that_fills_it():
    executor = make()
    text = np.arange(40, dtype=np.int32)
    alone = executor.forward(
        text, text, np.zeros(40, np.int32), np.array([[0, 1]], np.int32), np.array([39], np.int32)
    ).copy()
    # Sequence 1 has the first block of sequence 0 and goes on from there.
    both = executor.forward(
        np.concatenate([text[:32], text[32:]]),
        text,
        np.repeat(np.array([0, 1], np.int32), [32, 8]),
        np.array([[2, 0], [2, 3]], np.int32),
        np.array([39], np.int32),
    ).copy()
    executor.close()
    assert both.tobytes() == alone.tobytes()


def test_a_block_may_not_be_read_before_it_is_filled(executor):
    text = np.arange(40, dtype=np.int32)
    with pytest.raises(InvalidInput, match="is read by row 0 before row 8 writes it"):
        executor.forward(
            np.concatenate([text[32:], text[:32]]),
            np.concatenate([text[32:], text[:32]]),
            np.repeat(np.array([0, 1], np.int32), [8, 32]),
            np.array([[2, 3], [2, 0]], np.int32),
            np.array([39], np.int32),
        )


def test_what_an_earlier_text_left_in_a_block_changes_nothing():
    executor = make()
    fresh = executor.forward(**arrays()).copy()
    text = np.full(64, 79, np.int32)
    everywhere = np.arange(64, dtype=np.int32)
    for table in ([[0, 1]], [[2, 3]]):
        executor.forward(
            text,
            everywhere,
            np.zeros(64, np.int32),
            np.array(table, np.int32),
            np.array([63], np.int32),
        )
    assert executor.forward(**arrays()).tobytes() == fresh.tobytes()
    executor.close()


def test_packed_weights_are_shared_through_the_cache_folder(tmp_path):
    folder = tmp_path / "cache"
    source = tmp_path / "model"
    source.write_bytes(b"stands for the model file")
    made = tiny_llm.make()
    files = ModelFiles((source,), made.config, dict(made.tensors), TextFiles())
    first = make(files, cache_dir=folder)
    logits = first.forward(**arrays()).copy()
    first.close()  # waits until the file has its name
    (packed,) = folder.iterdir()
    assert packed.stat().st_mode & 0o777 == 0o600
    written = packed.stat().st_mtime_ns
    second = make(files, cache_dir=folder)
    assert second.statistics()["weights_shared"] == 1
    assert second.forward(**arrays()).tobytes() == logits.tobytes()
    assert packed.stat().st_mtime_ns == written
    source.write_bytes(b"another model under the same name")
    third = make(files, cache_dir=folder)
    third.close()
    assert list(folder.iterdir()) != [packed]  # the old one is gone
    assert len(list(folder.iterdir())) == 1
    assert second.forward(**arrays()).tobytes() == logits.tobytes()
    second.close()


def test_a_damaged_or_open_cache_is_not_used(tmp_path, caplog):
    folder = tmp_path / "cache"
    source = tmp_path / "model"
    source.write_bytes(b"stands for the model file")
    made = tiny_llm.make()
    files = ModelFiles((source,), made.config, dict(made.tensors), TextFiles())
    make(files, cache_dir=folder).close()
    (packed,) = folder.iterdir()
    packed.chmod(0o622)
    executor = make(files, cache_dir=folder)
    assert executor.statistics()["weights_shared"] == 0
    assert "others could write to" in caplog.text
    executor.close()
    packed.chmod(0o600)
    packed.write_bytes(packed.read_bytes()[:-64])
    executor = make(files, cache_dir=folder)
    assert executor.statistics()["weights_shared"] == 0
    assert "damaged" in caplog.text
    executor.close()
    folder.chmod(0o777)
    executor = make(files, cache_dir=folder)
    assert executor.statistics()["weights_shared"] == 0
    assert "others could write there" in caplog.text
    executor.close()


def test_a_cache_that_cannot_fit_is_refused_with_the_arithmetic(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1_000_000)
    with pytest.raises(OutOfMemory, match=r"1000 blocks of 16,384 bytes .* 1,000,000 are free"):
        make(kv_blocks=1000)
    with pytest.raises(OutOfMemory):
        make(kv_blocks=2**31 - 1)


def test_available_memory_is_a_sensible_number():
    assert 1 << 20 < memory.available() < 1 << 62


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_dtype": "float8"}, "KV dtype 'float8'"),
        ({"precision": "int4"}, "precision 'int4'"),
        ({"threads": 0}, "0 threads"),
        ({"threads": 100_000}, "100000 threads"),
    ],
)
def test_unknown_choices_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"heads": 5}, LoadFailed, "5 heads cannot share 2 KV heads"),
        ({"layers": (LayerConfig(rope=1), LayerConfig())}, LoadFailed, "rope 1"),
        ({"layers": (LayerConfig(window=-1), LayerConfig())}, LoadFailed, "window -1"),
        ({"norm_eps": float("nan")}, LoadFailed, "scale"),
        ({"activation": "relu"}, Unsupported, "relu"),
        ({"ropes": (RopeConfig((1.0, 0.1), interleaved=False),)}, Unsupported, "turns 4 of 32"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes, kind, message):
    good = tiny_llm.make()
    config = tiny_llm.config(**changes)
    with pytest.raises(kind, match=message):
        make(ModelFiles((), config, dict(good.tensors), TextFiles()))


def test_a_model_without_a_tensor_it_needs_is_an_error():
    files = tiny_llm.make()
    tensors = dict(files.tensors)
    del tensors["blk.1.ffn_up.weight"]
    executor = make(ModelFiles((), files.config, tensors, TextFiles()))
    with pytest.raises(LoadFailed, match="of layer 1 is missing"):
        executor.forward(**arrays())
    executor.close()


def test_a_closed_executor_says_so():
    executor = make()
    executor.close()
    executor.close()
    with pytest.raises(Closed):
        executor.forward(**arrays())


def test_threads_that_call_at_once_take_turns(executor):
    wanted = executor.hidden(**arrays()).copy()
    rows = {"tables": [[4, 5], [6, 7]]}
    wrong = []

    def call():
        for _ in range(50):
            executor.forward(**arrays(**rows))

    other = threading.Thread(target=call)
    other.start()
    for _ in range(50):
        found = executor.hidden(**arrays())
        if found.tobytes() != wanted.tobytes():
            wrong.append(found)
    other.join()
    assert not wrong
