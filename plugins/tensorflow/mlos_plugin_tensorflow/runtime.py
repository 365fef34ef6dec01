# SPDX-License-Identifier: BUSL-1.1
"""TensorFlow's threads and devices: set once per process, before its first tensor."""

from __future__ import annotations

from mlos_core.errors import LoadFailed
from mlos_plugin_tensorflow.framework import tf
from mlos_plugin_tensorflow.options import Options


def configure(device: str, options: Options, threads: int) -> None:
    """Choose the device, the numbers of threads that the user gave, and what may be fused.

    Raises:
        LoadFailed: there is no such device, or the runtime already runs with another choice.
    """
    intra, inter = thread_counts(options, threads)
    # The pass that makes one operator of several; eager calls know nothing like it.
    tf.config.optimizer.set_experimental_options({"remapping": options.fuse})
    try:
        _choose_device(device)
        if intra is not None and tf.config.threading.get_intra_op_parallelism_threads() != intra:
            tf.config.threading.set_intra_op_parallelism_threads(intra)
        if inter is not None and tf.config.threading.get_inter_op_parallelism_threads() != inter:
            tf.config.threading.set_inter_op_parallelism_threads(inter)
    except RuntimeError as err:
        raise LoadFailed(f"TensorFlow runs already, with other settings: {err}") from err


def thread_counts(options: Options, threads: int) -> tuple[int | None, int | None]:
    """Threads inside an operator and over operators; None leaves TensorFlow's choice.

    `threads`, for one computation as a whole, go to the inside of its operators.
    """
    whole = threads or None
    intra = whole if options.intra_op_threads is None else options.intra_op_threads
    inter = (1 if whole else None) if options.inter_op_threads is None else options.inter_op_threads
    return intra, inter


def _choose_device(device: str) -> None:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise LoadFailed(
            f"the tensorflow plugin knows no device {device!r}", hint="use cpu or cuda:0"
        )
    gpus = tf.config.list_physical_devices("GPU")
    number = int(index or "0")
    if kind == "cuda" and number >= len(gpus):
        raise LoadFailed(
            f"this TensorFlow sees {len(gpus)} GPUs, so there is no {device!r}",
            hint="check the driver; tensorflow-cpu knows none, tensorflow[and-cuda] does",
        )
    chosen = [gpus[number]] if kind == "cuda" else []
    if tf.config.get_visible_devices("GPU") != chosen:
        tf.config.set_visible_devices(chosen, "GPU")
    for gpu in chosen:
        tf.config.experimental.set_memory_growth(gpu, True)
