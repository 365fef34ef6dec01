# SPDX-License-Identifier: BUSL-1.1
"""Whether a machine can run a model, and by which arithmetic. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from axon_client.machine import Machine
from axon_client.manifest import Requirements
from axon_client.plugins import Loader
from axon_client.requirements import GB, Estimate

Answer = Literal["yes", "no", "unknown"]


class Check(msgspec.Struct, frozen=True):
    """One thing that is needed.

    Attributes:
        ok: None where it is only good to know, or cannot be told.
        needed, available: both sides, as people read them.
        arithmetic: how `needed` comes about; empty if the author stated it.
    """

    what: str
    ok: bool | None
    needed: str
    available: str
    arithmetic: str = ""


class Fit(msgspec.Struct, frozen=True):
    """The answer, and what it rests on."""

    answer: Answer
    checks: tuple[Check, ...]


def fit(
    needs: Requirements,
    reckoned: Estimate | None,
    machine: Machine,
    loaders: tuple[Loader, ...],
    *,
    installed: bool,
) -> Fit:
    """Compare what a model needs with what a machine has.

    Args:
        reckoned: the arithmetic behind what in `needs` is estimated; None if nothing is.
        loaders: the plugins that would load it.
        installed: whether its files are on the disk already.
    """
    checks = (
        *_memory(needs, reckoned, machine),
        _cores(needs, machine),
        _disk(needs, machine, installed),
        _gpu(needs, reckoned, machine),
        *(_plugin(loader) for loader in loaders),
    )
    return Fit(_answer(checks), checks)


def _answer(checks: tuple[Check, ...]) -> Answer:
    if any(check.ok is False for check in checks):
        return "no"
    memory = next((check for check in checks if check.what == "memory"), None)
    return "yes" if memory is not None and memory.ok else "unknown"


def _memory(needs: Requirements, reckoned: Estimate | None, machine: Machine) -> tuple[Check, ...]:
    memory, has = needs.compute.memory, machine.memory_available
    there = f"{gigabytes(has)} available of {gigabytes(machine.memory_total)}"
    if not memory.min_gb:
        return (Check("memory", None, "not known", there),)
    least = Check(
        "memory",
        memory.min_gb * GB <= has,
        f"{memory.min_gb:g} GB at least",
        there,
        reckoned.least_sum if reckoned else "",
    )
    if memory.recommended_gb <= memory.min_gb:
        return (least,)
    enough = memory.recommended_gb * GB <= has
    most = Check(
        "memory in full",
        True if enough else None,
        f"{memory.recommended_gb:g} GB for its whole context",
        "enough" if enough else f"not enough: {there}",
        reckoned.most_sum if reckoned else "",
    )
    return least, most


def _cores(needs: Requirements, machine: Machine) -> Check:
    cpu = needs.compute.cpu
    needed = f"{max(cpu.min_cores, 1)} at least"
    if cpu.recommended_cores > cpu.min_cores:
        needed += f", {cpu.recommended_cores} recommended"
    return Check("cores", cpu.min_cores <= machine.cores, needed, f"{machine.cores} here")


def _disk(needs: Requirements, machine: Machine, installed: bool) -> Check:
    space = f"{needs.storage.min_gb:g} GB"
    if installed:
        return Check("disk", True, space, "installed")
    free = f"{gigabytes(machine.disk_free)} free"
    if not needs.storage.min_gb:
        return Check("disk", None, "not known", free)
    return Check("disk", needs.storage.min_gb * GB <= machine.disk_free, space, free)


def _gpu(needs: Requirements, reckoned: Estimate | None, machine: Machine) -> Check:
    gpu = needs.compute.gpu
    there = ", ".join(f"{g.name} with {gigabytes(g.free)} free" for g in machine.gpus) or "none"
    if gpu is None or not (gpu.required or gpu.recommended or gpu.min_vram_gb):
        return Check("gpu", None, "not needed", there)
    word = "required" if gpu.required else "recommended" if gpu.recommended else "not needed"
    enough = any(gpu.min_vram_gb * GB <= one.free for one in machine.gpus)
    ok = enough if gpu.required else None
    needed = f"{word}, {gpu.min_vram_gb:g} GB of video memory" if gpu.min_vram_gb else word
    return Check("gpu", ok, needed, there, reckoned.video_sum if reckoned else "")


def _plugin(loader: Loader) -> Check:
    version = f"{loader.distribution} {loader.version}".strip()
    there = version if loader.installed else f"not installed: pip install {loader.package}"
    return Check("plugin", loader.installed, f"{loader.name} for {loader.format}", there)


def gigabytes(size: int) -> str:
    """`1.2 GB`."""
    return f"{size / GB:.1f} GB"
