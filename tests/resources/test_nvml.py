# SPDX-License-Identifier: BUSL-1.1
import pynvml
import pytest

from mlos_core.errors import InvalidInput, OutOfMemory, Unsupported
from mlos_core.resources import nvml
from mlos_core.resources.nvml import Gpu, Inventory, choose

GIB = 1 << 30
SMALL = Gpu(0, "T4", "GPU-aaaa", 16 * GIB, 2 * GIB, 14 * GIB)
LARGE = Gpu(1, "H100", "GPU-bbbb", 80 * GIB, 70 * GIB, 10 * GIB)
BOTH = Inventory((SMALL, LARGE))
NONE = Inventory(reason="no NVIDIA driver answers: not found")


class FakeNvml:
    """NVML with two GPUs; `broken` raises where it is asked for the count."""

    NVMLError = pynvml.NVMLError

    def __init__(self, broken=False):
        self.open, self.broken = 0, broken

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        if self.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return (SMALL, LARGE)[index]

    def nvmlDeviceGetMemoryInfo(self, handle):
        return handle

    def nvmlDeviceGetName(self, handle):
        return handle.name

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid


def test_the_inventory_is_what_nvml_tells(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    assert nvml.inventory({}) == BOTH
    assert fake.open == 0


def test_a_driver_that_fails_is_a_reason_and_no_error(monkeypatch):
    fake = FakeNvml(broken=True)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    assert "does not answer" in nvml.inventory({}).reason
    assert fake.open == 0


def test_no_driver_is_a_reason_and_no_error(monkeypatch):
    def absent():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert nvml.inventory().gpus == ()
    assert "no NVIDIA driver" in nvml.inventory().reason


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("1,0", ["H100", "T4"]),
        ("GPU-b", ["H100"]),
        ("0,7,1", ["T4"]),
        ("0,0", ["T4"]),
        ("", []),
        ("-1", []),
        ("GPU-", []),
    ],
)
def test_hidden_gpus_are_not_counted(listed, names):
    shown = nvml.visible((SMALL, LARGE), {"CUDA_VISIBLE_DEVICES": listed})
    assert [gpu.name for gpu in shown.gpus] == names
    assert [gpu.index for gpu in shown.gpus] == list(range(len(names)))
    assert bool(shown.reason) == (not names)


@pytest.mark.parametrize(
    ("device", "need", "known", "chosen"),
    [
        ("cpu", 0, BOTH, "cpu"),
        ("cuda", 0, BOTH, "cuda:1"),
        ("cuda:0", GIB, BOTH, "cuda:0"),
        ("auto", 60 * GIB, BOTH, "cuda:1"),
        ("auto", 75 * GIB, BOTH, "cpu"),
        ("auto", 0, NONE, "cpu"),
    ],
)
def test_the_emptiest_gpu_that_fits_is_chosen(device, need, known, chosen):
    assert choose(device, need, known) == chosen


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "CPU"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(InvalidInput, match="is no device"):
        choose(device, 0, BOTH)


def test_a_gpu_that_is_not_there_names_those_that_are():
    with pytest.raises(InvalidInput, match=r"no cuda:2.*cuda:0 T4 \(2.0 GiB free of 16.0 GiB\)"):
        choose("cuda:2", 0, BOTH)


def test_cuda_without_a_gpu_says_why():
    with pytest.raises(Unsupported, match="cuda was asked for, but no NVIDIA driver answers"):
        choose("cuda", 0, NONE)


@pytest.mark.parametrize(("device", "need"), [("cuda:0", 3 * GIB), ("cuda", 75 * GIB)])
def test_a_gpu_that_is_too_full_says_how_full(device, need):
    with pytest.raises(OutOfMemory, match="free of"):
        choose(device, need, BOTH)
