# SPDX-License-Identifier: BUSL-1.1
"""The worker process, from the fork to its exit status.

The main thread loads the model and runs its loop; the control thread does the rest.
SIGTERM drains, as the daemon's `Drain` does; SIGINT is the terminal's and ignored.
"""

from __future__ import annotations

import gc
import logging
import signal
from pathlib import Path
from typing import Final

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.ipc.messages import WorkerSpec
from mlos_core.ipc.native import arm_from_environment
from mlos_core.ipc.worker import WorkerPort
from mlos_core.resources.placement import apply_placement
from mlos_core.smi import EngineModel, Model, ModelPackage, Plugin, TensorModel
from mlos_core.types import Signature
from mlos_core.worker import logs
from mlos_core.worker.batch_loop import BatchLoop
from mlos_core.worker.control import Control, problem_of
from mlos_core.worker.engine_loop import EngineLoop
from mlos_core.worker.link import first_contact
from mlos_core.worker.port import Port
from mlos_core.worker.samples import Inputs, Samples, read_file
from mlos_core.worker.tally import Tally
from mlos_core.worker.warmup import warm_up

log = logging.getLogger(__name__)

_EX_SOFTWARE: Final = 70


def run(spec: WorkerSpec, plugin: Plugin) -> int:
    """Be the worker that `spec` describes; the exit status."""
    logs.configure(spec)
    arm_from_environment(spec.owner)
    try:
        connection, bell_fd, given = first_contact(spec)
    except MlosError as err:
        log.error("%s", err)
        return err.exit_code
    port = WorkerPort(
        bell_fd,
        spec.owner,
        spec.lane,
        wait_mode=spec.wait_mode,
        poll_max_us=spec.poll_max_us,
        max_attempts=spec.max_attempts,
    )
    tally, samples = Tally(), Samples()
    control = Control(spec, port, connection, tally, samples)
    _listen_for_signals(control)
    control.start()
    try:
        return _live(spec, plugin, port, tally, control, samples, given)
    except BaseException:
        log.critical("the worker failed", exc_info=True)
        return _EX_SOFTWARE
    finally:
        control.finish()
        port.close()


def _listen_for_signals(control: Control) -> None:
    # The byte in the wake pipe is what counts: the main thread may be anywhere, even in
    # a framework's C code for seconds. The handler only keeps the default one away.
    signal.set_wakeup_fd(control.wake_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _live(
    spec: WorkerSpec,
    plugin: Plugin,
    port: Port,
    tally: Tally,
    control: Control,
    samples: Samples,
    given: list[Inputs],
) -> int:
    try:
        apply_placement(spec.cpus, spec.numa_node)
        model = load(spec, plugin)
        control.report("warming", model.signature)
        if spec.warmup_inputs:
            given.append(read_file(spec.warmup_inputs))
        if spec.warmup:
            warm_up(model, given)
        given.clear()
    except BaseException as err:
        told = err if isinstance(err, MlosError) else _load_failed(spec, err)
        log.error("%s", told, exc_info=None if told is err else err)
        control.report("failed", problem=problem_of(told))
        return told.exit_code
    # What is loaded by now stays: no collection has to look at it again.
    gc.collect()
    gc.freeze()
    control.report("ready", model.signature)
    loop = (
        BatchLoop(port, model, spec.batch, tally, control.loop_paused, samples.keep)
        if isinstance(model, TensorModel)
        else EngineLoop(port, model, tally, control.loop_paused)
    )
    loop.run()
    tally.engine_ends()
    model.close()
    return 0


def load(spec: WorkerSpec, plugin: Plugin) -> Model:
    """Load the spec's model.

    Raises:
        LoadFailed: the plugin says why, or it returned something that is no model.
    """
    path = Path(spec.path)
    package = ModelPackage(spec.model, spec.version, path, spec.manifest, spec.threads)
    model = plugin.load(package, spec.device, spec.options)
    if not isinstance(model, TensorModel | EngineModel):
        raise LoadFailed(
            f"the plugin {spec.plugin!r} returned {type(model).__name__}, which is no model",
            hint="load() returns a TensorModel or an EngineModel",
        )
    if not isinstance(getattr(model, "signature", None), Signature):
        raise LoadFailed(f"the plugin {spec.plugin!r} returned a model without a signature")
    return model


def _load_failed(spec: WorkerSpec, error: BaseException) -> LoadFailed:
    text = str(error).strip()
    name = type(error).__name__
    return LoadFailed(
        f"the model {spec.model!r} cannot be loaded: {name}{': ' + text if text else ''}",
        hint="the worker's log has the traceback",
    )
