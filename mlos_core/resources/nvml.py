# SPDX-License-Identifier: BUSL-1.1
"""The GPUs of this machine, and which one a model gets.

NVML counts by bus position, CUDA as the process sees it: `CUDA_VISIBLE_DEVICES` hides and
reorders. Indices here are CUDA's, in the order of the bus (`CUDA_DEVICE_ORDER=PCI_BUS_ID`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from mlos_core.errors import InvalidInput, OutOfMemory, Unsupported
from mlos_core.resources.units import size

_DEVICE: Final = re.compile(r"cuda(?::(\d{1,3}))?")


class Gpu(msgspec.Struct, frozen=True):
    """One GPU; memory in bytes. `index` is N in `cuda:N`."""

    index: int
    name: str
    uuid: str
    total: int
    free: int
    used: int

    def describe(self) -> str:
        """`cuda:0 NVIDIA H100 (70.1 GiB free of 79.6 GiB)`."""
        return f"cuda:{self.index} {self.name} ({size(self.free)} free of {size(self.total)})"


class Inventory(msgspec.Struct, frozen=True):
    """The GPUs, or the reason why there are none."""

    gpus: tuple[Gpu, ...] = ()
    reason: str = ""


def inventory(environ: Mapping[str, str] | None = None) -> Inventory:
    """What NVML tells of this machine, as a process of this environment sees it."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        return Inventory(reason=f"no NVIDIA driver answers: {err}")
    try:
        found = [_gpu(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as err:
        return Inventory(reason=f"the NVIDIA driver does not answer: {err}")
    finally:
        pynvml.nvmlShutdown()
    if not found:
        return Inventory(reason="the NVIDIA driver knows no GPU")
    return visible(found, os.environ if environ is None else environ)


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, name, uuid, int(memory.total), int(memory.free), int(memory.used))


def visible(found: Sequence[Gpu], environ: Mapping[str, str]) -> Inventory:
    """What `CUDA_VISIBLE_DEVICES` leaves, numbered as CUDA numbers them.

    As CUDA does, an entry that names no GPU hides itself and all behind it.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return Inventory(tuple(found))
    shown: list[Gpu] = []
    for entry in (part.strip() for part in listed.split(",")):
        gpu = _named(entry, found)
        if gpu is None or any(gpu.uuid == other.uuid for other in shown):
            break
        shown.append(msgspec.structs.replace(gpu, index=len(shown)))
    if not shown:
        return Inventory(reason=f"CUDA_VISIBLE_DEVICES={listed!r} hides every GPU")
    return Inventory(tuple(shown))


def _named(entry: str, found: Sequence[Gpu]) -> Gpu | None:
    if entry.isdigit():
        return next((gpu for gpu in found if gpu.index == int(entry)), None)
    matching = [gpu for gpu in found if entry and gpu.uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def choose(device: str, need: int = 0, known: Inventory | None = None) -> str:
    """The device a model is loaded on: `cpu` or `cuda:N`.

    Args:
        device: `cpu`; `cuda:N`; `cuda`: the GPU with most free memory; `auto`: the same, and
            the CPU where no GPU has room.
        need: bytes of GPU memory, 0 if unknown.
        known: the GPUs; looked up if not given.

    Raises:
        InvalidInput: it names no device, or a GPU that is not there.
        Unsupported: there is no GPU at all; the message says why.
        OutOfMemory: no GPU, or not the one named, has that much free.
    """
    if device == "cpu":
        return device
    match = _DEVICE.fullmatch(device)
    if match is None and device != "auto":
        raise InvalidInput(
            f"{device!r} is no device", hint="use cpu, cuda, cuda:N with a number, or auto"
        )
    have = inventory() if known is None else known
    if match is None:
        fitting = [gpu for gpu in have.gpus if gpu.free >= need]
        return _cuda(_emptiest(fitting)) if fitting else "cpu"
    if not have.gpus:
        raise Unsupported(
            f"{device} was asked for, but {have.reason}",
            hint="use --device cpu, or install the driver and give this process the GPU",
        )
    gpu = _emptiest(have.gpus) if match[1] is None else _numbered(int(match[1]), have.gpus)
    if gpu.free < need:
        raise OutOfMemory(
            f"the model needs {size(need)} of GPU memory, {gpu.describe()} has less",
            hint="unload a model there, or choose another device",
        )
    return _cuda(gpu)


def _cuda(gpu: Gpu) -> str:
    return f"cuda:{gpu.index}"


def _emptiest(gpus: Sequence[Gpu]) -> Gpu:
    return max(gpus, key=lambda gpu: (gpu.free, -gpu.index))


def _numbered(index: int, gpus: Sequence[Gpu]) -> Gpu:
    for gpu in gpus:
        if gpu.index == index:
            return gpu
    there = ", ".join(gpu.describe() for gpu in gpus)
    raise InvalidInput(f"there is no cuda:{index}", hint=f"there is {there}")
