# SPDX-License-Identifier: BUSL-1.1
"""The control thread: everything a worker does beside computing.

It talks to the daemon, attaches and detaches channels, and when the daemon is gone keeps
the clients served: it knocks again, tells a new daemon what this worker holds, and ends a
worker that nobody needs any more. It sleeps in one `poll` and wakes for the control
socket, for the wake pipe (the loop, or a signal), and without a daemon for clients' ends.

Thread rules: `report`, `loop_paused` and `finish` belong to the main thread; all else runs
in the control thread. The two meet in `draining`, in `_reports`, `_broken` and `_gone` (deques,
whose append and popleft are atomic) and in the wake pipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections import deque
from typing import Final

from mlos_core.errors import ChannelBroken, MlosError, ProtocolError
from mlos_core.ipc.framing import Connection, Frame, close_all, decode
from mlos_core.ipc.messages import (
    Adopted,
    AskSamples,
    AskStats,
    Drain,
    Held,
    HeldAll,
    Problem,
    Recover,
    Release,
    SamplesTaken,
    Serve,
    Serving,
    Start,
    Stats,
    ToWorker,
    Unserve,
    Unserved,
    WorkerHello,
    WorkerReport,
    WorkerSpec,
    WorkerState,
)
from mlos_core.types import Signature
from mlos_core.worker.channels import Channel, Channels
from mlos_core.worker.link import Link
from mlos_core.worker.orphan import Orphanhood
from mlos_core.worker.port import Port
from mlos_core.worker.samples import Samples
from mlos_core.worker.tally import Tally

log = logging.getLogger(__name__)

_LOOK_S: Final = 60.0
_EX_SOFTWARE: Final = 70


def problem_of(error: MlosError) -> Problem:
    """An error as the control plane carries it."""
    return Problem(error.code, error.message, error.hint)


class Control:
    """One worker's control thread.

    Args:
        spec: what the daemon started this worker with.
        port: shared with the loop.
        connection: to the daemon, non-blocking, after `Start`.
        tally: shared with the loop, read here.
        samples: likewise.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        port: Port,
        connection: Connection,
        tally: Tally,
        samples: Samples | None = None,
    ) -> None:
        self.draining = False
        self._spec = spec
        self._port = port
        self._tally = tally
        self._samples = samples or Samples()
        self._link = Link(spec.socket, connection)
        self._channels = Channels(port)
        self._orphanhood = Orphanhood(spec.orphan_grace)
        self._reports: deque[WorkerReport] = deque()
        self._broken: deque[tuple[int, str]] = deque()
        self._gone: deque[Channel] = deque()
        self._finished = False
        self._state: WorkerState = "loading"
        self._signature: Signature | None = None
        self._wake_read, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="control")

    # --- for the main thread ----------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def report(
        self, state: WorkerState, signature: Signature | None = None, problem: Problem | None = None
    ) -> None:
        """Tell the daemon of a new state."""
        self._reports.append(WorkerReport(state, signature, problem))
        self._wake()

    def loop_paused(self) -> bool:
        """The loop's `ended`: it got no request. True once it is to end."""
        broken = self._port.broken()
        if broken:
            self._broken.extend(broken)
            self._wake()
        return self.draining

    def finish(self) -> None:
        """Send what was reported, let go of all channels, and end the thread."""
        self._finished = True
        self._wake()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self.wake_fd)

    def _wake(self) -> None:
        # A full pipe wakes as well.
        with contextlib.suppress(BlockingIOError):
            os.write(self.wake_fd, b"\0")

    # --- the thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            # What came behind `Start` may already lie in the connection: look before waiting.
            self._turn()
            while not self._finished:
                self._wait()
                self._turn()
            self._turn()
            if self.draining:
                self._tell_stats(0)  # unasked: nobody can ask any more
            self._link.close()
            self._channels.close()
        except BaseException:
            # Without this thread nobody could stop the worker; a successor takes over.
            log.critical("the control thread failed", exc_info=True)
            os._exit(_EX_SOFTWARE)

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        timeout = _LOOK_S
        if self._link.connected:
            events = select.POLLIN | (select.POLLOUT if self._link.unsent else 0)
            poller.register(self._link, events)
        else:
            timeout = self._link.wait_s(time.monotonic())
            for channel in self._channels:
                poller.register(channel.pidfd, select.POLLIN)
        poller.poll(timeout * 1000)

    def _turn(self) -> None:
        """Do all there is to do; nothing here waits for the daemon."""
        self._hear_wakes()
        for frame in self._link.receive():
            self._handle(frame)
        while self._reports:
            self._tell(self._reports.popleft())
        while self._broken:
            self._let_go(*self._broken.popleft())
        while self._gone:
            channel = self._gone.popleft()
            if self._channels.released(channel):
                self._link.send(Unserved(channel.name))
        self._link.flush()
        self._look_after_orphan(time.monotonic())

    def _let_go(self, index: int, why: str) -> None:
        name = self._channels.name_of(index)
        if name is not None:
            log.error("channel %s is broken and let go: %s", name, why)
            self._channels.detach(name)
            self._link.send(Unserved(name, problem_of(ChannelBroken(why))))

    def _hear_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if signal.SIGTERM in os.read(self._wake_read, 4096):
                self._drain("SIGTERM")

    def _tell(self, report: WorkerReport) -> None:
        self._state = report.state
        self._signature = report.signature or self._signature
        self._link.send(report)

    def _drain(self, why: str) -> None:
        if self.draining:
            return
        log.info("draining: %s", why)
        self.draining = True
        # Said by the loop, once it claims nothing more.
        self._port.stop_claiming(lambda: self.report("draining"))

    # --- messages ---------------------------------------------------------------------

    def _handle(self, frame: Frame) -> None:
        body, fds = frame
        try:
            message = decode(body, ToWorker)
        except ProtocolError as err:
            close_all(fds)
            self._link.reject(err.message)
            return
        self._link.settled()
        if isinstance(message, Serve):
            self._serve(message, fds)
            return
        close_all(fds)
        match message:
            case Unserve(channel=name):
                self._channels.detach(name)
                self._link.send(Unserved(name))
            case Release(channel=name):
                if not self._channels.release(name, self._released):
                    self._link.send(Unserved(name))
            case Recover():
                self._recover(message)
            case Drain():
                self._drain("asked by the daemon")
            case AskStats(id=number):
                self._tell_stats(number)
            case AskSamples(id=number):
                fd = self._samples.write()
                self._link.send(SamplesTaken(number), (fd,))
                close_all([fd])
            case Start() | Adopted():
                log.debug("the daemon says %s", type(message).__name__)

    def _tell_stats(self, number: int) -> None:
        self._link.send(Stats(number, self._tally.statistics(self._port, len(self._channels))))

    def _serve(self, message: Serve, fds: list[int]) -> None:
        try:
            self._channels.attach(message, fds)
        except MlosError as err:
            log.error("channel %s is not served: %s", message.channel, err)
            self._link.send(Serving(message.channel, problem_of(err)))
        else:
            self._link.send(Serving(message.channel))

    def _released(self, channel: Channel) -> None:
        # Called by the claiming thread.
        self._gone.append(channel)
        self._wake()

    def _recover(self, message: Recover) -> None:
        try:
            self._channels.recover(message.channel, message.limit, message.alive)
        except MlosError as err:
            # The channel went while the message was on its way; nothing is left to recover.
            log.warning("not recovered: %s", err)

    # --- without a daemon -------------------------------------------------------------

    def _look_after_orphan(self, now_s: float) -> None:
        if not self._link.connected:
            for name in self._channels.of_dead_clients():
                log.info("the client of channel %s has ended", name)
                self._channels.detach(name)
            if not self._finished and self._link.reconnect(now_s):
                self._tell_all()
        self._orphanhood.look(now_s, needed=self._link.connected or len(self._channels) > 0)
        if self._orphanhood.over(now_s):
            self._drain("no daemon and no client")

    def _tell_all(self) -> None:
        """Introduce this worker, as it is, to a new daemon."""
        hello = WorkerHello(self._spec, os.getpid(), self._state, self._signature, adopted=True)
        self._link.send(hello, (self._port.bell_fd,))
        for channel in self._channels:
            held = Held(channel.name, channel.client_pid, channel.client_uid)
            self._link.send(held, self._channels.fds(channel))
        self._link.send(HeldAll())
        log.info("introduced to a new daemon with %d channels", len(self._channels))
