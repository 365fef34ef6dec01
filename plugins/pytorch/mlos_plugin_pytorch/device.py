# SPDX-License-Identifier: BUSL-1.1
"""Where a model computes, and with how many threads."""

from __future__ import annotations

import os
from typing import Any

import torch

from mlos_core.errors import LoadFailed


def open_device(name: str) -> Any:
    """The `torch.device` called `name`: `cpu`, `cuda` or `cuda:N`.

    Raises:
        LoadFailed: torch knows no such device here.
    """
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal() or (kind == "cpu" and index):
        raise LoadFailed(f"the pytorch plugin knows no device {name!r}", hint="use cpu or cuda:0")
    if kind == "cuda":
        _check_cuda(name, int(index or "0"))
    return torch.device(kind, int(index or "0")) if kind == "cuda" else torch.device("cpu")


def _check_cuda(name: str, index: int) -> None:
    if torch.version.cuda is None:
        raise LoadFailed(
            f"there is no {name}: torch {torch.__version__} was built without CUDA",
            hint="install a CUDA build of torch, or register with device cpu",
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise LoadFailed(
            f"there is no {name}: torch finds {count} CUDA devices",
            hint="check the driver and CUDA_VISIBLE_DEVICES, or register with device cpu",
        )


def use_threads(inside_operators: int, over_operators: int | None) -> None:
    """Set torch's thread counts for this process.

    Args:
        inside_operators: threads of one operator; 0 for torch's own choice, but no more than
            the processors that this process may run on.
        over_operators: threads that run operators side by side; None for torch's choice.

    Raises:
        LoadFailed: it is too late to set `over_operators`.
    """
    allowed = len(os.sched_getaffinity(0))
    torch.set_num_threads(inside_operators or min(torch.get_num_threads(), allowed))
    if over_operators is None:
        return
    try:
        torch.set_num_interop_threads(over_operators)
    except RuntimeError as err:
        raise LoadFailed(f"interop_threads cannot be set any more: {err}") from err
