# SPDX-License-Identifier: BUSL-1.1
import pytest
from mlos_plugin_onnx import providers
from mlos_plugin_onnx.providers import CPU, CUDA, check_started, providers_for, read

from mlos_core.errors import LoadFailed


@pytest.fixture
def with_cuda(monkeypatch):
    monkeypatch.setattr(providers.ort, "get_available_providers", lambda: [CUDA, CPU])


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("cpu", [(CPU, {})]),
        ("CPUExecutionProvider", [(CPU, {})]),
        ("cuda, cpu", [(CUDA, {}), (CPU, {})]),
        (
            "cuda:device_id=1:use_tf32=0,cpu",
            [(CUDA, {"device_id": "1", "use_tf32": "0"}), (CPU, {})],
        ),
        (
            (("CUDAExecutionProvider", {"device_id": 1, "use_tf32": False}), "CPU"),
            [(CUDA, {"device_id": "1", "use_tf32": "0"}), (CPU, {})],
        ),
        (
            "tensorrt:trt_engine_cache_path=/a=b",
            [("TensorrtExecutionProvider", {"trt_engine_cache_path": "/a=b"})],
        ),
    ],
)
def test_providers_are_read_from_lists_and_from_text(wanted, chosen):
    assert read(wanted) == chosen


@pytest.mark.parametrize("wanted", ["", (), "cpu,cpu", "cpu:threads", "cpu:=1", "cpu,,"])
def test_providers_that_cannot_be_read_are_refused(wanted):
    with pytest.raises(LoadFailed, match=r"option providers|no provider"):
        providers_for("cpu", wanted)


def test_a_missing_provider_is_named_beside_those_there_are():
    with pytest.raises(LoadFailed, match=r"no provider 'MadeUp'.*it has .*CPUExecutionProvider"):
        providers_for("cpu", ("MadeUp", "cpu"))


def test_the_device_gives_cuda_its_number(with_cuda):
    assert providers_for("cuda:1", None) == [(CUDA, {"device_id": "1"}), (CPU, {})]
    assert providers_for("cuda", "cuda:use_tf32=0") == [(CUDA, {"use_tf32": "0", "device_id": "0"})]
    assert providers_for("cpu", "cuda:device_id=2") == [(CUDA, {"device_id": "2"})]
    assert providers_for("cpu", None) == [(CPU, {})]


def test_a_device_and_providers_that_contradict_each_other_are_refused(with_cuda):
    with pytest.raises(LoadFailed, match="device is cuda:1, but CUDA's option device_id is 0"):
        providers_for("cuda:1", "cuda:device_id=0")
    with pytest.raises(LoadFailed, match="the providers are CPUExecutionProvider"):
        providers_for("cuda:0", "cpu")


def test_a_provider_that_did_not_start_is_an_error_wherever_it_stands():
    asked = [(CPU, {}), (CUDA, {})]
    with pytest.raises(LoadFailed, match="'CUDAExecutionProvider' did not start"):
        check_started(asked, [CPU])
    check_started(asked, [CUDA, CPU])


def test_providers_and_their_options_reach_the_session(doubling, load):
    given = [["CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"}]]
    assert load(doubling, providers=given).signature.batched
    assert load(doubling, providers="cpu").signature.batched
    with pytest.raises(LoadFailed, match="it has"):
        load(doubling, device="cuda:7")
