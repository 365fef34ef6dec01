# SPDX-License-Identifier: BUSL-1.1
"""Messages of the control plane: client to daemon, daemon to worker, daemon to plugin host.

All go through `framing.Connection`. A comment behind a message names the descriptors that
travel with it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import InvalidInput
from mlos_core.ipc.histogram import Times
from mlos_core.smi import Statistics
from mlos_core.types import Signature

PROTOCOL = 1


class _Message(msgspec.Struct, forbid_unknown_fields=True, tag=True):
    pass


class Problem(msgspec.Struct, frozen=True):
    """An `MlosError` on the wire."""

    code: str
    message: str
    hint: str = ""


# --- any peer: the first message on a connection ------------------------------------------


class Hello(_Message):
    """A client introduces itself. `pid` is checked against SO_PEERCRED where it can be."""

    pid: int
    protocol: int = PROTOCOL


class Welcome(_Message):
    """The daemon accepts."""

    pid: int
    version: str
    protocol: int = PROTOCOL


# --- client to daemon ---------------------------------------------------------------------


class Attach(_Message):
    """Ask for a channel to `model`. Answered by `Attached` or `Answer` with a problem.

    `version` pins the channel to one version; without it the channel follows the model's
    route. `worker` asks for a channel that this worker alone serves: the daemon does so, to
    try a worker before any client gets to see it.
    """

    id: int
    model: str
    slots: int = 64
    request_bytes: int = 4 << 20
    reply_bytes: int = 4 << 20
    timeout: float = 30.0
    version: str = ""
    worker: int = 0


class Resume(_Message):  # fds: segment, completion eventfd
    """Give a channel back to a daemon that was restarted. Answered like `Attach`."""

    id: int
    model: str
    channel: str
    version: str = ""


class Attached(_Message):  # fds: segment, doorbell, completion eventfd
    """The channel. `channel` is its unguessable name on the control plane."""

    id: int
    channel: str
    model: str
    version: str
    signature: Signature


class Detach(_Message):
    """The client gives the channel up; its slots are cancelled. Not answered."""

    channel: str


class Call(_Message):
    """Any other request: `method` of the daemon's service with `params`."""

    id: int
    method: str
    params: dict[str, Any] = {}


class Answer(_Message):
    """The answer to a `Call`, or the refusal of an `Attach`."""

    id: int
    result: Any = None
    problem: Problem | None = None


ClientMessage = Hello | Attach | Resume | Detach | Call
ToClient = Welcome | Attached | Answer


# --- daemon and template, which forks the plugin hosts (a socket pair made at its start) -----


class StartHost(_Message):  # fds: the host's end of its socket pair with the daemon
    """Daemon to template: fork a host. Answered by `Forked` or `Stale`, later by `Exited`."""

    owner: int
    plugin: str


class Stale(_Message):
    """Template to daemon: what it has imported was changed on disk; another one must fork."""

    owner: int


# --- daemon and plugin host -----------------------------------------------------------------


class PluginInfo(msgspec.Struct, frozen=True):
    """What a plugin says of itself once it is imported."""

    name: str
    version: str
    smi_version: int
    formats: tuple[str, ...] = ()
    framework: str = ""


class HostReady(_Message):
    """The plugin is imported and the host can fork workers. `core` is its mlos-core's version."""

    plugin: PluginInfo
    core: str = ""


class HostBroken(_Message):
    """The plugin cannot be used; the host ends."""

    reason: str
    traceback: str = ""


class BatchPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which waiting requests run together, and what becomes of those that wait.

    Sizes are rows (dimension 0), times microseconds; 0 stands for no such limit. One worker
    lets `max_queue_size` requests wait (0: four batches) beside those that run next;
    what comes on top waits in its channel, or is refused. `docs/batching.md` has the whole.
    """

    max_batch_size: int = 1
    max_queue_delay_us: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_size: int = 0
    when_full: Literal["wait", "reject"] = "wait"
    queue_timeout_us: int = 0
    priority_levels: int = 0
    default_priority: int = 0
    preserve_ordering: bool = False

    def check(self) -> None:
        """Raise `InvalidInput` unless every value, and all together, are possible."""
        _within("max_batch_size", self.max_batch_size, 1, MAX_BATCH_SIZE)
        _within("max_queue_delay_us", self.max_queue_delay_us, 0, MAX_QUEUE_US)
        for size in self.preferred_batch_sizes:
            _within("preferred_batch_sizes", size, 1, self.max_batch_size)
        _within("max_queue_size", self.max_queue_size, 0, MAX_QUEUE_SIZE)
        _within("queue_timeout_us", self.queue_timeout_us, 0, MAX_QUEUE_US)
        _within("priority_levels", self.priority_levels, 0, MAX_PRIORITY_LEVELS)
        _within("default_priority", self.default_priority, 0, self.priority_levels)
        if self.when_full not in ("wait", "reject"):
            raise InvalidInput(f"when_full is {self.when_full!r}", hint="give 'wait' or 'reject'")
        if self.when_full == "reject" and not self.max_queue_size:
            raise InvalidInput(
                "nothing is full without a limit", hint="when_full 'reject' needs max_queue_size"
            )
        if 0 < self.queue_timeout_us <= self.max_queue_delay_us:
            raise InvalidInput(
                "requests would time out while they wait for companions",
                hint="queue_timeout_us is to be larger than max_queue_delay_us",
            )


MAX_BATCH_SIZE: Final = 1 << 16
MAX_QUEUE_SIZE: Final = 1 << 16
MAX_QUEUE_US: Final = 3_600_000_000
MAX_PRIORITY_LEVELS: Final = 64


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(
            f"{name} of {value} is not possible", hint=f"give a number from {low} to {high}"
        )


class WorkerSpec(msgspec.Struct, frozen=True):
    """Everything a worker process has to know.

    `owner` is unique for ever (never reused, not even by a restarted daemon); `lane` is
    the worker's bit in the doorbell, unique among the living workers of the model. `cpus` are
    the processors it may run on (none: all), `numa_node` where its memory lies (-1: anywhere),
    `python` the interpreter of its plugin host ("": the daemon's own), `warmup_inputs` an .npz
    file of inputs to warm it with.
    """

    model: str
    version: str
    path: str
    plugin: str
    owner: int
    lane: int
    socket: str
    device: str = "cpu"
    options: dict[str, Any] = {}
    manifest: dict[str, Any] | None = None
    batch: BatchPolicy = BatchPolicy()
    threads: int = 0
    cpus: tuple[int, ...] = ()
    numa_node: int = -1
    python: str = ""
    warmup_inputs: str = ""
    wait_mode: Literal["adaptive", "spin", "block"] = "adaptive"
    poll_max_us: int = 2000
    max_attempts: int = 3
    warmup: bool = True
    orphan_grace: float = 30.0
    log_format: Literal["text", "json"] = "text"
    log_level: str = "info"


class Fork(_Message):
    """Daemon to host: start a worker. Answered by `Forked`."""

    spec: WorkerSpec


class Forked(_Message):  # fds: pidfd of the process
    """Host or template to daemon."""

    owner: int
    pid: int


class Exited(_Message):
    """Host or template to daemon: a process was reaped.

    `status` is as from `os.waitstatus_to_exitcode`.
    """

    owner: int
    pid: int
    status: int


ToHost = Fork
FromHost = HostReady | HostBroken | Forked | Exited
FromTemplate = Forked | Exited | Stale


# --- daemon and worker (the worker connects to the control socket) --------------------------

WorkerState = Literal["loading", "warming", "ready", "draining", "failed"]


class WorkerHello(_Message):
    """First message of a worker, at its start and to every restarted daemon.

    With `adopted` true the worker already runs: one `Held` per channel follows, then
    `HeldAll`; and it sends its doorbell with this message.
    """  # fds when adopted: doorbell

    spec: WorkerSpec
    pid: int
    state: WorkerState = "loading"
    signature: Signature | None = None
    adopted: bool = False
    protocol: int = PROTOCOL


class Held(_Message):  # fds: segment, completion eventfd, pidfd of the client
    """A channel the worker serves, for a daemon that has forgotten."""

    channel: str
    client_pid: int
    client_uid: int


class HeldAll(_Message):
    """No further `Held` follows."""


class Start(_Message):  # fds: doorbell, and perhaps a memory file of samples
    """Daemon to a new worker: load the model, and warm it with the samples."""


class Adopted(_Message):
    """Daemon to a worker it has taken over; nothing changes for the worker."""


class WorkerReport(_Message):
    """Worker to daemon: the state changed. `problem` is set when it failed."""

    state: WorkerState
    signature: Signature | None = None
    problem: Problem | None = None


class Serve(_Message):  # fds: segment, completion eventfd, pidfd of the client
    """Daemon to worker: serve this channel. Answered by `Serving`."""

    channel: str
    client_pid: int
    client_uid: int


class Serving(_Message):
    """Worker to daemon: attached (or not: `problem`)."""

    channel: str
    problem: Problem | None = None


class Unserve(_Message):
    """Daemon to worker: let the channel go; its client is gone. Answered by `Unserved`."""

    channel: str


class Unserved(_Message):
    """Worker to daemon: the mapping and its descriptors are closed.

    Sent unasked, with `problem`, when the worker found the segment broken.
    """

    channel: str
    problem: Problem | None = None


class Release(_Message):
    """Daemon to worker: others serve this channel now. Claim nothing more of it, finish what is
    held, then let it go. Answered by `Unserved`.
    """

    channel: str


class Recover(_Message):
    """Daemon to worker: take over what dead workers left in this channel.

    A slot is orphaned when its owner is below `limit` and not in `alive`.
    """

    channel: str
    limit: int
    alive: tuple[int, ...]


class Drain(_Message):
    """Daemon to worker: claim nothing more, finish what is held, then exit with 0."""


class AskStats(_Message):
    """Daemon to worker. Answered by `Stats`."""

    id: int


class WorkerStats(msgspec.Struct, frozen=True):
    """Counters since the worker's start.

    `rejected` were refused because too many waited, `expired` because they waited too long.
    `*_ns` are sums over the requests that were answered well, `failed_ns` over the others;
    `times` are histograms of the former: of the whole `request`, its time in the `queue`, and
    the computation (`infer`). `batches` has, by the rows of a call, how many calls there were and
    their nanoseconds. `channels`, `pending` (submitted, claimed by nobody) and `running` (claimed,
    not answered) are levels.
    """

    requests: int = 0
    failures: int = 0
    failed_ns: int = 0
    cancelled: int = 0
    rejected: int = 0
    expired: int = 0
    executions: int = 0
    rows: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    copied_bytes: int = 0
    recovered: int = 0
    channels: int = 0
    pending: int = 0
    running: int = 0
    times: dict[str, Times] = {}
    batches: dict[int, tuple[int, int]] = {}
    engine: Statistics = {}


class Stats(_Message):
    """Worker to daemon; with the id 0 its last ones, unasked, before it ends."""

    id: int
    stats: WorkerStats


class AskSamples(_Message):
    """Daemon to worker: which requests can a successor be warmed with? Answered by
    `SamplesTaken`."""

    id: int


class SamplesTaken(_Message):  # fds: a memory file
    """Worker to daemon."""

    id: int


ToWorker = Start | Adopted | Serve | Unserve | Release | Recover | Drain | AskStats | AskSamples
FromWorker = WorkerHello | Held | HeldAll | WorkerReport | Serving | Unserved | Stats | SamplesTaken
FirstMessage = Hello | WorkerHello
